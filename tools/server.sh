#!/usr/bin/env bash
# MLflow for a team: a password for everything, loopback or a named interface, known host names only. docs/server.md.
set -euo pipefail
: "${MLFLOW_AUTH_ADMIN_PASSWORD:?set it to the password of the user admin, at least 12 characters long}"
: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?set it to a secret of your own: openssl rand -hex 32}"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_AUTH_CONFIG_PATH=${MLFLOW_AUTH_CONFIG_PATH:-$(realpath "$(dirname "$0")/basic_auth.ini")}
umask 077 # the store and the users' table are nobody else's
HOST=${HOST:-127.0.0.1}
PORT=${PORT:-5000}
exec mlflow server --app-name basic-auth --host "$HOST" --port "$PORT" --workers "${WORKERS:-1}" \
	--backend-store-uri "${STORE:-sqlite:///mlflow.db}" --artifacts-destination "${ARTIFACTS:-./mlartifacts}" \
	--allowed-hosts "${ALLOWED_HOSTS:-localhost:$PORT,127.0.0.1:$PORT}"
