-- Copyright 2024 The Authors.
local lfs = require "lfs"
local util = require("store.util")

local LIMIT = 10

-- A store of entries on disk.
local Store = {}
Store.__index = Store

-- Opens a store.
function Store.open(path)
  local self = setmetatable({}, Store)
  self.path = path
  return self
end

--- Reads one entry.
function Store:read(key)
  if self.entries[key] then
    return self.entries[key]
  end
  return nil
end

local function load(path)
  local lines = {}
  for line in io.lines(path) do
    lines[#lines + 1] = line
  end
  return lines
end

Store.clear = function(self)
  self.entries = {}
end

local helpers = {
  trim = function(text)
    return text:match("^%s*(.-)%s*$")
  end,
}

return Store
