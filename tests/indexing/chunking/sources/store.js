'use strict';

const fs = require('fs');
const { join } = require('path');

/** A store of entries on disk. */
class Store {
  size = 1;

  constructor(path) {
    this.path = path;
  }

  #load() {
    return fs.readFileSync(this.path);
  }
}

class Hidden {
  read() {
    return 1;
  }
}

const open = async (path) => {
  return new Store(path);
};

const close = () => {
  fs.close();
};

exports.stop = function () {
  return join('a', 'b');
};

Store.prototype.late = function () {
  return 2;
};

module.exports = { Store, open, other: close };

describe('Store', () => {
  it('reads, and writes', () => {
    open('x');
  });
});
