# Copyright 2024 The Authors.
{ lib, stdenv, fetchurl, ... }:

let
  version = "1.0";

  # Reads one entry.
  readEntry = store: key:
    if builtins.hasAttr key store
    then store.${key}
    else null;

  openStore = { path, limit ? 10 }: {
    inherit path limit;
  };
in
stdenv.mkDerivation {
  pname = "store";
  inherit version;

  meta = with lib; {
    description = "Keeps things by key";
    license = licenses.asl20;
  };

  passthru.open = path: openStore {
    inherit path;
  };
}
