#!/bin/bash
# A table on a SLURM cluster, submitted and left alone. Copy this file, change the first block, and run it on a login
# node, in an environment in which privsweep[slurm] is installed: jobs inherit it, so no job script is needed.
#
#   bash slurm_sweep.sh              submits what is not stored yet, and returns
#   privsweep-status zen/table1 output_dir=...     what has become of it
#
# The same command again, at any time, submits exactly what is missing: failed, cancelled and lost runs.
set -eu
table=zen/table1
results=${SCRATCH:-$PWD}/privsweep      # on a disk that login and compute nodes share
data=${SCRATCH:-$PWD}/data
partition=gpu
account=                                # whom to charge; empty: the cluster's default

# Compute nodes often have no network: fetch the datasets here.
privsweep-data mnist cifar10 data_dir="$data"

privsweep experiment=$table wait=false output_dir="$results" data_dir="$data" \
  hydra/launcher=slurm_gpu \
  hydra.launcher.partition=$partition \
  ${account:+hydra.launcher.account=$account} \
  hydra.launcher.timeout_min=240 \
  hydra.launcher.array_parallelism=16

privsweep-status $table output_dir="$results" || true   # its exit code tells whether all is done
