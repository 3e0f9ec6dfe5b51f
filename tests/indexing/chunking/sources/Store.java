package org.example.store;

import java.io.File;
import java.util.Map;

/** A store of entries on disk. */
public class Store implements Source {
  private final File file;

  public Store(File file) {
    this.file = file;
  }

  /** Reads one entry. */
  @Override
  public String read(String key) {
    return entries.get(key);
  }

  void load() {
    entries.put("a", "b");
  }

  private class Entry {
    public String show() {
      return "entry";
    }
  }
}

public interface Source {
  String read(String key);
}

class StoreTest {
  @Test
  public void reads() {
    assertNull(new Store(null).read("a"));
  }
}
