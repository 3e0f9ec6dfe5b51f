# Copyright 2024 The Authors.
library(methods)
require(stats)
source("util.R")

limit <- 10

#' Opens a store.
#' @export
open_store <- function(path) {
  lines <- readLines(path)
  entries <- list()
  for (line in lines) {
    entries[[line]] <- line
  }
  structure(list(path = path, entries = entries), class = "store")
}

read_entry = function(store, key) {
  store$entries[[key]]
}

print.store <- function(x, ...) {
  cat("store at", x$path, "\n")
  invisible(x)
}

setClass("Store", representation(
  path = "character"
))

setMethod("show", "Store", function(object) {
  cat(object@path)
})

test_that("an unknown key gives nothing", {
  expect_null(read_entry(list(), "a"))
})
