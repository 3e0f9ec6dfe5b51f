/* Copyright 2024 The Authors. */
package org.example.store

import java.io.File
import scala.collection.mutable

/** Keeps things by key. */
trait Source {
  def read(key: String): Option[String]
}

case class Entry(key: String, value: String)

/** A store of entries on disk. */
class Store(file: File) extends Source {
  private val entries = mutable.Map.empty[String, Entry]

  /** Reads one entry. */
  override def read(key: String): Option[String] = {
    entries.get(key).map { entry =>
      entry.value
    }
  }

  private def load(): Unit = {
    for (line <- lines) {
      entries.put(line, Entry(line, line))
    }
  }
}

object Store {
  def open(path: String): Store = {
    val store = new Store(new File(path))
    store
  }
}

enum Mode {
  case Read, Write
}
