#!/usr/bin/env bash
# zuko 1.6.0 with torch 2.13.0: draws of SOSPF do not have the density that it claims. Its inverse is searched between
# -10 and 10, and what lies beyond is put at that edge, where log_prob is an ordinary finite number.
#
# A flow of three dimensions with its first, random weights, 20,000 draws in float64: a few tens of coordinates are one
# and the same number next to -10 or 10, where a continuous distribution has no two draws with an equal coordinate.
# Seen:
#   coordinates at the edge: {-9.999999701976776: 18, 9.999999701976776: 10} of 60000
#   log q there is finite: True
# Fails if no two draws share such a coordinate.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 zuko==1.6.0 numpy
cd "$folder"
venv/bin/python - <<'PYTHON'
import torch
import zuko

torch.manual_seed(0)
flow = zuko.flows.SOSPF(features=3).double()
with torch.no_grad():
    q = flow()
    z = q.sample((20_000,))
    edge = z[z.abs() > 9.999]
    values, counts = edge.unique(return_counts=True)
    print("coordinates at the edge:", dict(zip(values.tolist(), counts.tolist())), "of", z.numel())
    print("log q there is finite:", bool(q.log_prob(z).isfinite().all()))
assert int(counts.max()) > 1
PYTHON
