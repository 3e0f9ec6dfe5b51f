// Copyright 2024 The Authors.

// Package store keeps things by key.
package store

import (
	"errors"
	"os"
)

// ErrMissing says that there is no such key.
var ErrMissing = errors.New("missing")

// Store keeps entries on disk.
type Store struct {
	path string
}

type entry struct {
	key string
}

// Open opens a store.
func Open(path string) (*Store, error) {
	return &Store{path}, nil
}

func load(path string) error {
	_, err := os.ReadFile(path)
	return err
}

// Read reads one entry.
func (s *Store) Read(key string) (string, error) {
	return "", ErrMissing
}

func (s Store) close() {
	load(s.path)
}

func TestOpen(t *testing.T) {
	Open("x")
}

func TestConnection(a int) bool {
	return a > 0
}
