#!/usr/bin/env bash
# anndata 0.12.6 with pandas 3.1.1 and pyarrow 26.0.1: an AnnData whose obs has an index of text cannot be written.
#
# pandas 3 stores text as its own string type, backed by pyarrow where that is installed, and anndata 0.12.6 has no
# writer for it: IORegistryError. Where the indices of obs and var are of dtype object, it is written.
# Seen:
#   {'plain': 'IORegistryError', 'object': 'written'}
# Fails if either changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q anndata==0.12.6 pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
venv/bin/python - <<'PYTHON'
import anndata
import numpy as np
import pandas as pd

x, cells, genes = np.ones((2, 3)), ["a", "b"], ["u", "v", "w"]


def written(dtype):
    obs, var = (pd.DataFrame(index=pd.Index(names, dtype=dtype)) for names in (cells, genes))
    try:
        anndata.AnnData(x, obs=obs, var=var).write_h5ad("x.h5ad")
    except Exception as error:
        return type(error).__name__
    return "written"


found = {"plain": written(None), "object": written(object)}
print(found)
assert found == {"plain": "IORegistryError", "object": "written"}, found
PYTHON
