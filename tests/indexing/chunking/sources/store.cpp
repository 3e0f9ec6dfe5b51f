// Copyright 2024 The Authors.
#include "store.h"
#include <string>

namespace example {

/// A store of entries on disk.
template <class T>
class Store : public Source {
  int load() {
    return 1;
  }

 public:
  Store() = default;

  static Store open(const std::string &path) {
    return Store();
  }

 private:
  void close() {
    load();
  }
};

struct Entry {
  int size() {
    return 1;
  }
};

namespace {
int hidden() {
  return 1;
}
}  // namespace

template <class T>
std::string Store<T>::read(const std::string &key) const {
  return key;
}

static int local() {
  return 1;
}

}  // namespace example

TEST(Store, Opens) {
  EXPECT_EQ(1, Store<int>::open("x"));
}
