#!/usr/bin/env bash
# A sweep on SLURM: sbatch tuning/cluster/slurm.sh -P dataset=mnist -P trials=50   (or -P resume=SWEEP_ID)
# Run it in the repository, on a file system that all nodes share, with .venv made there (`make setup`).
# ~/.geovae.env (chmod 600) has MLFLOW_TRACKING_URI and, if the server has passwords, MLFLOW_TRACKING_USERNAME and _PASSWORD.
#SBATCH --job-name=geovae-sweep
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=4
#SBATCH --time=24:00:00
#SBATCH --output=runs/slurm-%j.log
set -euo pipefail
source .venv/bin/activate
set -a
source ~/.geovae.env
set +a
export RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
# Other users of the network cannot connect: only the nodes of this job know the token.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(head -n 1 <<<"$nodes")
address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 20000))

start() { # node, options of `ray start`
  srun --nodes=1 --ntasks=1 --nodelist="$1" --overlap ray start "${@:2}" --block \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" --disable-usage-stats &
}
start "$head" --head --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1
until ray status --address "$address:$port" >/dev/null 2>&1; do sleep 1; done
for node in $(tail -n +2 <<<"$nodes"); do start "$node" --address="$address:$port"; done
until [ "$(ray list nodes --address "$address:$port" --filter state=ALIVE --format json | grep -c node_id)" -ge "$SLURM_NNODES" ]; do
  sleep 2
done

mlflow run . -e sweep --env-manager local --experiment-name geovae -P address="$address:$port" -P gpus=1 "$@"
