"""What a box costs beside an open kernel, a bare container, and what others run their code in."""
