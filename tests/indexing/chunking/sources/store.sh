#!/usr/bin/env bash
# Copyright 2024 The Authors.
# Keeps things by key.
set -euo pipefail

. lib/common.sh
source lib/log.sh

LIMIT=10

# Opens a store.
store_open() {
  local path=$1
  if [[ ! -f $path ]]; then
    echo "no store" >&2
    return 1
  fi
}

function store_read {
  local key=$1
  while IFS='=' read -r name value; do
    if [ "$name" = "$key" ]; then
      echo "$value"
    fi
  done < "$STORE"
}

_load() {
  case $1 in
    read) store_read "$2" ;;
    *) echo "unknown" ;;
  esac
}

main() {
  store_open "$1"
  store_read "$2"
}

main "$@"
