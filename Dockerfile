# geovae with everything that runs need, on a CPU: docker build -t geovae . && docker run --rm geovae
# Without a command it runs the demo; `docker run -v $PWD/out:/data geovae` keeps store, models and figures.
FROM python:3.11-slim
RUN useradd --create-home geovae && mkdir /data && chown geovae /data
WORKDIR /geovae
COPY requirements.txt ./
# torch without CUDA: a local version, 2.13.0+cpu, is preferred to 2.13.0
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.txt
COPY MLproject conda.yaml LICENSE ./
COPY geovae geovae
COPY experiments experiments
COPY tuning tuning
COPY mlflow_projects mlflow_projects
# runs write into the folder in which they start: the volume; the code belongs to root and stays as it is
USER geovae
WORKDIR /data
VOLUME /data
ENV PYTHONPATH=/geovae MLFLOW_TRACKING_URI=sqlite:////data/mlflow.db MLFLOW_EXPERIMENT_NAME=geovae \
    MLFLOW_DISABLE_TELEMETRY=true RAY_USAGE_STATS_ENABLED=0 PYTHONUNBUFFERED=1
CMD ["python", "-m", "mlflow_projects.main", "--comparison", "/geovae/experiments/configs/demo.yaml", "--concurrency", "1"]
