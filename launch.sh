#!/usr/bin/env bash
# Sets an isolated environment up, then runs something in it.
#
#   ./launch.sh                          the quickstart: trains on synthetic cells
#   ./launch.sh --config=configs/isbi.py [flags of main.py]
#   ./launch.sh experiments/<question> [flags]   its sweep, with a table and a figure
#   ./launch.sh test [pytest flags]      all tests; -m "not slow" leaves out slow ones
#   ./launch.sh docs [serve]             builds the documentation, or shows it
#   ./launch.sh web [PORT] [--model=DIR] the page that segments images in a browser
#   ./launch.sh dev ruff check .         a command of the development environment
#   ./launch.sh lock                     pins the newest versions in requirements/
#
# It takes the newest Python of this machine that has a file in requirements/, or lets
# uv install one. PYTHON=python3.12 chooses another. Each version has its own
# environment, below .venv/ or $VENV, with the versions of requirements/<version>.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Prints the version of a Python that can make an environment; nothing if it cannot.
probe() {
  local needs=ensurepip # Debian has it in a package of its own; uv does without
  command -v uv >/dev/null && needs=sys
  "$1" -c "import $needs, sys; print('%d.%d' % sys.version_info[:2])" 2>/dev/null || true
}

# Prints the versions of Python that have a file in requirements/, the newest first.
supported() {
  local file
  for file in requirements/3.*.txt; do basename "$file" .txt; done | sort -t. -k2,2nr
}

# Prints the newest supported Python that works: on PATH, of pyenv, or of uv.
find_python() {
  local version python
  for version in $(supported); do
    for python in "python$version" python3 \
      "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python \
      "$(uv python find --system --no-python-downloads "$version" 2>/dev/null || true)"; do
      if [ -n "$python" ] && [ "$(probe "$python")" = "$version" ]; then
        echo "$python"
        return
      fi
    done
  done
  version=$(supported | head -n 1)
  if command -v uv >/dev/null && uv python install --quiet "$version"; then
    uv python find --system "$version"
  else
    echo python3
  fi
}

python=${PYTHON:-$(find_python)}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || {
  echo "error: $python does not run; set PYTHON to a Python of at least 3.11" >&2
  exit 1
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "error: $python is Python $version; set PYTHON to one of at least 3.11" >&2
  exit 1
}
[ -n "$(probe "$python")" ] || {
  echo "error: $python has no ensurepip; install python$version-venv, or uv" >&2
  exit 1
}
venv=${VENV:-.venv}/$version

# Pins the newest versions that setup.cfg allows, for each version of Python and all
# extras and platforms. A line that is only for a later Python is left out.
lock() {
  local tools=${VENV:-.venv}/lock minor pins
  [ -x "$tools/bin/python" ] || "$python" -m venv "$tools"
  "$tools/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade uv
  for minor in 11 12 13 14; do
    pins=$("$tools/bin/uv" pip compile setup.cfg --quiet --all-extras --universal \
      --python-version "3.$minor" --no-header --no-annotate --no-emit-index-url |
      sed -e "/python_full_version >= '3\.$((minor + 1))'/d" \
        -e "s/ ; python_full_version < '3\.$((minor + 1))'$//")
    {
      echo "# What launch.sh installs for Python 3.$minor; \`./launch.sh lock\` renews it."
      echo "$pins"
    } >"requirements/3.$minor.txt"
    echo "wrote requirements/3.$minor.txt"
  done
}
if [ "${1:-}" = lock ]; then
  lock
  exit
fi

# The page needs a Python and npm, but not the environment.
web() {
  if [ ! web/node_modules/.package-lock.json -nt web/package-lock.json ]; then
    command -v npm >/dev/null || {
      echo "error: npm is missing, which installs onnxruntime-web; install Node.js" >&2
      exit 1
    }
    echo "installing onnxruntime-web into web/node_modules"
    npm ci --prefix web --ignore-scripts --no-audit --no-fund --silent || {
      echo "error: onnxruntime-web cannot be installed, which needs the network once;" \
        "npm ci --prefix web says why" >&2
      exit 1
    }
  fi
  exec "$python" web/serve.py "$@"
}
if [ "${1:-}" = web ]; then
  web "${@:2}"
fi

extras=()
case ${1:-} in
  test | dev) extras+=(dev) ;;
  docs) extras+=(docs) ;;
  "" | -*) extras+=(volumes sweep) ;;
  experiments/*)
    extras+=(volumes sweep)
    [ -e "${1%/}/sweep.py" ] || {
      echo "error: no ${1%/}/sweep.py; there are" experiments/*/sweep.py \
        experiments/*/*/sweep.py >&2
      exit 1
    }
    ;;
  *)
    echo "error: no command $1; there are test, dev, docs, web, lock," \
      "experiments/<question> and the flags of main.py" >&2
    exit 1
    ;;
esac
if [[ " $* " == *mode[=\ ]export\ * ]]; then extras+=(export); fi
if [ -e /proc/driver/nvidia/version ] || command -v nvidia-smi >/dev/null; then
  extras+=(cuda)
elif [ -n "${TPU_NAME:-}" ] || compgen -G "/dev/accel*" >/dev/null; then
  extras+=(tpu)
fi
project=.
[ ${#extras[@]} -eq 0 ] || project=".[$(IFS=,; echo "${extras[*]}")]"

# A Python version without a lock file gets the newest versions.
pins=requirements/$version.txt
[ -e "$pins" ] || pins=/dev/null

# What is installed is stamped, so that a second launch starts at once.
stamp=$venv/installed${project#.}
sum=$(cat setup.cfg pyproject.toml "$pins" | cksum)
is_installed() { [ "$(cat "$stamp" 2>/dev/null || true)" = "$sum" ]; }

# Builds use the pinned setuptools, not the newest one, which pip would download.
install() {
  local pip=("$venv/bin/python" -m pip install --disable-pip-version-check) jax newest
  echo "installing $project into $venv"
  jax=$(grep '^jax==' "$pins" || true)
  newest=$(grep '^jax==' "requirements/$(supported | head -n 1).txt")
  if [ -n "$jax" ] && [ "$jax" != "$newest" ]; then
    echo "Python $version has $jax; a newer Python has $newest, which trains faster"
  fi
  [ "$pins" != /dev/null ] || echo "no requirements/$version.txt: the newest versions"
  if command -v uv >/dev/null; then
    [ -x "$venv/bin/python" ] || uv venv --quiet --seed --python "$python" "$venv"
    pip=(env "VIRTUAL_ENV=$venv" uv pip install)
  fi
  [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
  "${pip[@]}" --quiet --constraint "$pins" setuptools
  "${pip[@]}" --quiet --constraint "$pins" --no-build-isolation --editable "$project"
  echo "$sum" >"$stamp"
}

if ! is_installed; then
  mkdir -p "$(dirname "$venv")"
  ( # of launches that start together, one installs; macOS has no flock
    ! command -v flock >/dev/null || flock 9 ||
      echo "warning: $venv.lock cannot be locked; start one launch at a time" >&2
    if ! is_installed; then install; fi
  ) 9>"$venv.lock"
fi

run=$venv/bin/python
case ${1:-} in
  test)
    cores=$(getconf _NPROCESSORS_ONLN)
    workers=$((cores < 4 ? cores : 4))  # each needs up to 4 GiB
    exec "$run" -m pytest --numprocesses=$workers --dist=loadfile "${@:2}"
    ;;
  dev) PATH=$(cd "$venv/bin" && pwd):$PATH exec "${@:2}" ;;
  docs)
    export NO_MKDOCS_2_WARNING=1 # of the theme, about a later version
    if [ "${2:-}" = serve ]; then
      exec "$run" -m mkdocs serve --dev-addr 127.0.0.1:8000 "${@:3}"
    fi
    exec "$run" -m mkdocs build --strict --quiet "${@:2}"
    ;;
  experiments/*)
    question=${1%/}
    exec "$run" main.py --mode=sweep --config="$question/sweep.py" \
      --output="$question" "${@:2}"
    ;;
  *) exec "$run" main.py "$@" ;;
esac
