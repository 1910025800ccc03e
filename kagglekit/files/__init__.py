"""Files that are whole: written whole or not at all, read as they were written, or named as damaged."""

from kagglekit.files.paths import (
    PART,
    check_run_name,
    fold_folders,
    fold_number,
    name_training,
    resolve,
    run_folder,
    seed_folder,
    shorten,
)
from kagglekit.files.reading import (
    CHECKSUM,
    ONLY_HASH,
    Damaged,
    checksum_files,
    hash_content,
    hash_files,
    read_json,
    reading,
    write_json,
)
from kagglekit.files.writing import check_space, delete_folder, file_lock, remove, replacing, sweep, temporary_folder
