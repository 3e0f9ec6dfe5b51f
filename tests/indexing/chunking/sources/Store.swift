// Copyright 2024 The Authors.
import Foundation

let limit = 10

/// Keeps things by key.
public protocol Source {
    func read(_ key: String) -> String?
}

/// A store of entries on disk.
public final class Store: Source {
    private var entries: [String: String] = [:]

    public init(path: String) {
        self.path = path
        load()
    }

    /// Reads one entry.
    public func read(_ key: String) -> String? {
        guard let value = entries[key] else {
            return nil
        }
        return value
    }

    private func load() {
        for line in lines {
            let parts = line.split(separator: "=")
            entries[String(parts[0])] = String(parts[1])
        }
    }
}

struct Entry {
    var key: String
}

enum Mode {
    case read
    case write
}

extension Store {
    public func clear() {
        entries = [:]
    }
}

func open(_ path: String) -> Store {
    return Store(path: path)
}

class StoreTests: XCTestCase {
    func testRead() {
        XCTAssertNil(open("x").read("a"))
    }
}
