// Copyright 2024 The Authors. Licensed under Apache-2.0.
package org.example.store

import java.io.File
import java.io.IOException

const val LIMIT = 10

/** Keeps things by key. */
@Serializable
data class Entry(val key: String, val value: String)

interface Source {
    fun read(key: String): String?
}

/** A store of entries on disk. */
class Store(private val file: File) : Source {
    private val entries = mutableMapOf<String, Entry>()

    /** Reads one entry. */
    override fun read(key: String): String? {
        val entry = entries[key] ?: return null
        return entry.value
    }

    private fun load() {
        file.readLines().forEach { line ->
            val (key, value) = line.split("=")
            entries[key] = Entry(key, value)
        }
    }

    companion object {
        fun open(path: String): Store {
            return Store(File(path)).also { it.load() }
        }
    }
}

object Registry {
    fun find(name: String): Store? = null
}

enum class Mode { READ, WRITE }

internal fun String.toEntry(): Entry {
    val (key, value) = split("=")
    return Entry(key, value)
}

typealias Entries = Map<String, Entry>
