<?php

namespace Example;

use Example\Entry;

/** A store of entries on disk. */
final class Store implements Source
{
    public function __construct(private string $path)
    {
    }

    /** Reads one entry. */
    public function read(string $key): ?string
    {
        return $this->entries[$key] ?? null;
    }

    private function load(): void
    {
        $this->entries = file($this->path);
    }
}

interface Source
{
    public function read(string $key);
}

function open_store(string $path): Store
{
    return new Store($path);
}

class StoreTest extends TestCase
{
    public function testRead(): void
    {
        $this->assertNull(open_store('x')->read('a'));
    }
}
