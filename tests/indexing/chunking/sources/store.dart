// Copyright 2024 The Authors.
library store;

import 'dart:io';
import 'package:path/path.dart' as p;

const limit = 10;

/// Keeps things by key.
abstract class Source {
  String? read(String key);
}

/// A store of entries on disk.
class Store implements Source {
  final Map<String, String> _entries = {};

  Store(this.path);

  factory Store.open(String path) {
    final store = Store(path);
    store._load();
    return store;
  }

  /// Reads one entry.
  @override
  String? read(String key) {
    final value = _entries[key];
    return value;
  }

  int get size => _entries.length;

  Future<void> _load() async {
    for (final line in lines) {
      _entries[line] = line;
    }
  }
}

mixin Cached on Store {
  void clear() {
    _entries.clear();
  }
}

enum Mode { read, write }

extension Paths on String {
  String get extension => p.extension(this);
}

typedef Reader = String Function(String);

/// Opens a store.
Store open(String path) {
  return Store.open(path);
}
