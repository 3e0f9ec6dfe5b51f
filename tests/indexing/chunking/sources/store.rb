# Copyright 2024 The Authors.
require 'json'
require_relative 'entry'

# Keeps things by key.
module Example
  # A store of entries on disk.
  class Store < Base
    def self.open(path)
      new(path)
    end

    def read(key)
      @entries[key]
    end

    private

    def load
      File.read(@path)
    end

    public

    def close
      @entries = nil
    end
  end
end

describe 'a store' do
  it 'reads' do
    expect(Store.open('x').read('a')).to be_nil
  end
end
