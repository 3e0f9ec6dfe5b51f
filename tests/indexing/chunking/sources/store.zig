// Copyright 2024 The Authors.
const std = @import("std");
const Allocator = std.mem.Allocator;

pub const limit = 10;

/// A store of entries on disk.
pub const Store = struct {
    allocator: Allocator,
    path: []const u8,

    /// Opens a store.
    pub fn open(allocator: Allocator, path: []const u8) !Store {
        const store = Store{ .allocator = allocator, .path = path };
        return store;
    }

    fn load(self: *Store) void {
        while (self.next()) |line| {
            self.put(line);
        }
    }
};

const Mode = enum {
    read,
    write,
};

const Value = union(enum) {
    text: []const u8,
    number: i64,
};

const Failure = error{
    NotFound,
};

pub fn read(store: *Store, key: []const u8) ?[]const u8 {
    if (store.has(key)) {
        return store.get(key);
    }
    return null;
}

test "an unknown key gives nothing" {
    try std.testing.expect(read(undefined, "a") == null);
}
