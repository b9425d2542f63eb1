# Predicts with a trained run:
#   docker build -t unet_jax .                              for CPUs
#   docker build -t unet_jax --build-arg EXTRAS=cuda .      for NVIDIA GPUs
#   docker run --rm -v "$PWD:/data" unet_jax --workdir=/data/runs/x \
#     --input=/data/images --output=/data/labels
FROM python:3.13-slim

ARG EXTRAS=cpu
WORKDIR /app
COPY setup.cfg pyproject.toml README.md ./
COPY requirements requirements
COPY configs configs
COPY unet_jax unet_jax
RUN pip install --no-cache-dir --constraint requirements/3.13.txt ".[$EXTRAS,volumes]"

# results belong to the user who starts the container with --user
ENV JAX_COMPILATION_CACHE_DIR=/tmp/compiled
WORKDIR /data
ENTRYPOINT ["unet-jax", "--mode=predict"]
CMD ["--help"]
