"""One program for each subject: a fresh process measures it once and prints its figures."""
