# Copyright 2024 The Authors.
job "store" {
  datacenters = ["dc1"]

  group "cache" {
    count = 1
  }
}

plugin "docker" "limited" {
  config {
    allow = false
  }
}
