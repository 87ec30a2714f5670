# Sourced by the other scripts: makes .venv in the project and installs into it, once per change of
# pyproject.toml or of the place where the project is, so that later starts need no network.
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

ensure_env() { # ensure_env EXTRAS: "" or "dev"
  local extras=$1 venv="$project/.venv" python want stamp
  stamp="$venv/.pageferry-${extras:-base}"
  python=${PYTHON:-python3}
  want=$({ echo "$project" && cat "$project/pyproject.toml" "$project/pageferry/_version.py"; } |
    sha256sum | cut -d' ' -f1)
  [ "$(uname -s)" = Linux ] || {
    echo "pageferry needs Linux; this is $(uname -s)." >&2
    exit 2
  }
  [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return 0
  # Without a stamp of either kind, its set-up was interrupted: it may be half of one.
  if [ ! -x "$venv/bin/python" ] || [ -z "$(find "$venv" -maxdepth 1 -name '.pageferry-*')" ]; then
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
      echo "pageferry needs Python 3.11 or newer; '$python' is not. Set PYTHON to one." >&2
      exit 2
    }
    echo "pageferry: making a virtual environment in $venv (first start only)" >&2
    rm -rf "$venv"
    "$python" -P -m venv "$venv" || exit 2
  fi
  echo "pageferry: installing its libraries (only when they change)" >&2
  "$venv/bin/python" -P -m pip install --quiet --disable-pip-version-check \
    --editable "$project${extras:+[$extras]}" || {
    echo "pageferry: the libraries could not be installed (is there a network?)" >&2
    exit 2
  }
  echo "$want" >"$stamp"
}
