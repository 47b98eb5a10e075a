"""Honest cells for the image with numpy and pandas. Each asserts its own outcome."""

from __future__ import annotations

CONTEXT = "city,year,people\n" + "".join(f"c{n % 7},{2000 + n % 3},{n}\n" for n in range(30_000))
"""What `context` is in these cells."""

CELLS: dict[str, str] = {
    "arrays": """
import numpy as np
a = np.arange(1_000_000, dtype=np.float64).reshape(1000, 1000)
assert a.sum() == 499999500000 and (a @ np.eye(1000) == a).all() and np.sort(a[::-1, 0])[1] == 1000
assert np.fft.ifft(np.fft.fft(a[0])).real.round().astype(int)[7] == 7
assert np.random.default_rng(1).normal(size=1000).std() < 2
np.save("/tmp/a.npy", a); assert np.load("/tmp/a.npy", mmap_mode="r")[1, 1] == 1001
assert np.memmap("/tmp/m.dat", mode="w+", shape=(100, 100))[0, 0] == 0
np.savetxt("/tmp/a.txt", a[:3, :3]); assert np.loadtxt("/tmp/a.txt").shape == (3, 3)
""",
    "linear algebra": """
import numpy as np
a = np.random.default_rng(1).normal(size=(400, 400))
assert np.allclose(np.linalg.solve(a, a @ np.ones(400)), 1) and np.allclose(np.linalg.inv(a) @ a, np.eye(400))
u, s, v = np.linalg.svd(a); assert np.allclose((u * s) @ v, a)
assert np.isfinite(np.linalg.eigvals(a)).all() and np.linalg.matrix_rank(a) == 400
assert np.linalg.qr(a)[0].shape == a.shape
""",
    "linear algebra in threads of its own": """
import os, subprocess, sys
code = (
    "import numpy as n; a = n.random.default_rng(1).normal(size=(600, 600));"
    "assert n.allclose(n.linalg.inv(a) @ a, n.eye(600))"
)
environment = os.environ | {"OPENBLAS_NUM_THREADS": "64"}  # it takes as many as the machine has cores, at most
done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
assert done.returncode == 0, done.stderr
""",
    "linear algebra from threads": """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
a = np.random.default_rng(1).normal(size=(200, 200))
with ThreadPoolExecutor(8) as pool:
    assert all(np.allclose(x @ a, np.eye(200)) for x in pool.map(lambda _: np.linalg.inv(a), range(16)))
""",
    "arrays in a process pool": """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing, numpy as np
a = np.random.default_rng(1).normal(size=(200, 200))
for way in ("fork", "forkserver", "spawn"):
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(way)) as pool:
        assert np.allclose(list(pool.map(np.linalg.inv, [a, a]))[1] @ a, np.eye(200)), way
""",
    "a table from the context": """
import io, pandas as pd
df = pd.read_csv(io.StringIO(context)); assert df.shape == (30_000, 3) and df["people"].sum() == 449985000
for engine in ("c", "python"):
    assert len(pd.read_csv(io.StringIO(context[:10_000]), engine=engine)) > 500
totals = df.groupby(["city", "year"])["people"].agg(["sum", "mean", "count"])
assert totals["count"].sum() == 30_000 and len(totals) == 21
assert df.pivot_table(index="city", columns="year", values="people", aggfunc="sum").shape == (7, 3)
assert len(df.merge(df.drop_duplicates("city"), on="city")) == 30_000
assert df[df["city"].str.contains("c1") & (df["people"] > 100)].sort_values("people")["people"].iloc[0] == 106
assert sum(len(chunk) for chunk in pd.read_csv(io.StringIO(context), chunksize=7_000)) == 30_000
""",
    "tables to text and back": """
import io, sqlite3, pandas as pd
df = pd.DataFrame({"a": [1, 2], "b": ["x", None], "t": pd.to_datetime(["2024-01-31", "2024-02-29"])})
df["t"] = df["t"].dt.tz_localize("Europe/Berlin")
assert pd.read_json(io.StringIO(df.to_json(orient="records", date_format="iso")))["a"].tolist() == [1, 2]
assert "2024-01-31" in df.to_csv() and "<table" in df.to_html() and "Europe/Berlin" in str(df["t"].dtype)
df.to_pickle("/tmp/t.pkl"); assert pd.read_pickle("/tmp/t.pkl")["a"].sum() == 3
df.to_csv("/tmp/t.csv.gz"); assert len(pd.read_csv("/tmp/t.csv.gz")) == 2
db = sqlite3.connect(":memory:"); df[["a", "b"]].to_sql("t", db)
assert pd.read_sql("select sum(a) n from t", db)["n"][0] == 3
assert df.set_index("t").resample("1D")["a"].sum().sum() == 3 and df.describe()["a"]["mean"] == 1.5
""",
    "a table as a value": """
import pandas as pd
df = pd.DataFrame({"a": range(1000)}); display(df); print(df.head(), df.info()); df
""",
}
