import { readFile } from 'node:fs';
import type { Entry } from './entry';
import * as path from 'node:path';

export interface Source {
  read(key: string): string;
}

interface Hidden {
  a: number;
}

/** A store of entries on disk. */
@Injectable()
export class Store implements Source {
  private load() {
    return readFile;
  }

  read(key: string) {
    return key;
  }
}

export default class Other {
  run = () => {
    return 1;
  };
}

export enum Mode {
  Read,
  Write,
}

type Name = {
  b: string;
};

export function open(file: string): Store;
export function open(file: string) {
  return new Store();
}

namespace inner {
  function run() {
    return path;
  }
}
