"""The keys of kernel-metadata.json and dataset-metadata.json with their types, and the machines that Kaggle has.

As kaggle 2.2 reads them (kaggle_api_extended.py: kernels_push, dataset_create_new); docs/kernels_metadata.md of the
client says of enable_internet that it is false when absent, and its code that it is true.
"""

KERNEL_FILE, DATASET_FILE = "kernel-metadata.json", "dataset-metadata.json"
GOLDEN_FILE = "golden.parquet"  # golden rows, in the folder of a run
BOOL = 'bool | Literal["true", "false", "True", "False"]'
KERNEL_KEYS = {  # key -> its type, as kaggle 2.2 reads it; what it does not know it passes over in silence
    "id": "str",
    "id_no": "int | None",
    "title": "str",
    "code_file": "str",
    "language": 'Literal["python", "r", "rmarkdown"]',
    "kernel_type": 'Literal["notebook", "script"]',
    "is_private": BOOL,
    "enable_gpu": BOOL,
    "enable_tpu": BOOL,
    "enable_internet": BOOL,
    "machine_shape": "str | None",
    "dataset_sources": "list[str]",
    "competition_sources": "list[str]",
    "kernel_sources": "list[str]",
    "model_sources": "list[str]",
    "keywords": "list[str]",
    "docker_image_pinning_type": 'Literal["original", "latest"] | None',
    "docker_image": "str | None",
}
KERNEL_REQUIRED = ("id", "code_file", "language", "kernel_type")
ABSENT = {  # key that a kernel should always tell -> what the client or Kaggle takes when it is not there
    "title": "no title",
    "is_private": "true",
    "enable_gpu": "false",
    "enable_tpu": "false",
    "enable_internet": "true: the internet is ON",
    "machine_shape": "whatever Kaggle likes",
    "dataset_sources": "none",
    "competition_sources": "none",
    "kernel_sources": "none",
    "model_sources": "none",
    "keywords": "none",
    "docker_image_pinning_type": "whatever Kaggle likes",
    "docker_image": "Kaggle's own",
}
DATASET_KEYS = {
    "id": "str",
    "id_no": "int | None",
    "title": "str",
    "subtitle": "str | None",
    "description": "str | None",
    "licenses": "list[dict[str, str]]",
    "keywords": "list[str]",
    "resources": "list[dict[str, Any]] | None",
    "isPrivate": "bool",  # this and the rest: written by `datasets metadata`, no part of an upload
    "collaborators": "list[Any]",
    "data": "list[Any] | None",
    "expectedUpdateFrequency": "str | None",
    "userSpecifiedSources": "str | None",
    "image": "str | None",
}
DATASET_REQUIRED = ("id", "title", "licenses")

SHAPES = {  # machine_shape -> what it is; several are open only inside some competitions
    "NvidiaTeslaT4": "two T4 of 15 GB",
    "NvidiaTeslaT4Highmem": "two T4 and more memory",
    "NvidiaL4": "four L4 of 22 GB",
    "NvidiaL4X1": "one L4 of 22 GB",
    "NvidiaTeslaA100": "A100",
    "NvidiaH100": "H100",
    "NvidiaRtxPro6000": "RTX Pro 6000",
    "TpuV5E8": "TPU v5e, 8 cores",
    "TpuV6E8": "TPU v6e, 8 cores",
}
RETIRED = {  # machine_shape that is no more -> what Kaggle runs such a kernel on instead
    "NvidiaTeslaP100": "NvidiaTeslaT4",
    "TpuV38": "TpuV5E8",
    "Tpu1VmV38": "TpuV5E8",
    "TpuV232": "a CPU",
    "TpuV2256": "a CPU",
}
