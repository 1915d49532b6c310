# docker build -t sagan .                                                        for a CPU
# docker build -t sagan --build-arg TORCH=https://download.pytorch.org/whl/cu128 .   for CUDA
# docker run --rm -v "$PWD:/work" sagan train --data photos --run_dir runs/first     (for CUDA: --gpus all)
FROM python:3.12-slim
ARG TORCH=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir torch --index-url $TORCH
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir '/src[features,serve,video,data]' && useradd --create-home sagan
USER sagan
WORKDIR /work
ENTRYPOINT ["sagan"]
CMD ["--help"]
