# Sourced by the other scripts: makes .venv in the project and installs into it, once per change of
# pyproject.toml, so that later starts need no network.
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

ensure_env() { # ensure_env EXTRAS: "" or "dev"
  local extras=$1 venv="$project/.venv" python want stamp
  stamp="$venv/.pageferry-${extras:-base}"
  python=${PYTHON:-python3}
  want=$(cat "$project/pyproject.toml" "$project/common/__init__.py" | sha256sum | cut -d' ' -f1)
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return 0
  if [ ! -x "$venv/bin/python" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
      echo "pageferry needs Python 3.11 or newer; '$python' is not. Set PYTHON to one." >&2
      exit 2
    }
    echo "pageferry: making a virtual environment in $venv (first start only)" >&2
    "$python" -m venv "$venv" || exit 2
  fi
  echo "pageferry: installing its libraries (only when they change)" >&2
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable "$project${extras:+[$extras]}" || {
    echo "pageferry: the libraries could not be installed (is there a network?)" >&2
    exit 2
  }
  echo "$want" >"$stamp"
}
