// Agents for tests: each in a process of its own, on a Unix socket in a directory of its own, gone with the test.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, type FSWatcher, mkdtempSync, readFileSync, rmSync, watch } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { Host, type HostOptions } from './host';

/** How long an agent may take to start and to stop, in milliseconds. */
const PATIENCE = 20_000;

/** How an agent is started. */
export interface EmbeddedOptions {
  /** The program. Absent: `FARSOCK_BIN`, or `farsock` in PATH. */
  binary?: string;
  /** More words for its command line, such as `--lab-address 127.0.0.2`. */
  args?: string[];
}

/** What an agent says of itself when it is ready. */
interface Ready {
  endpoints: string[];
  token_file?: string;
  instance_id: string;
  pid: number;
}

/** An agent that belongs to this process. */
export class EmbeddedAgent {
  readonly #options: EmbeddedOptions;
  readonly #directory = mkdtempSync(join(tmpdir(), 'farsock-'));
  readonly #hosts = new Set<Host>();
  #child: ChildProcess | undefined;
  #ready: Ready | undefined;
  readonly #exit = () => this.#discard();

  private constructor(options: EmbeddedOptions) {
    this.#options = options;
  }

  /** Starts an agent that is reached by a Unix socket, and by loopback TCP with a token. */
  static async start(options: EmbeddedOptions = {}): Promise<EmbeddedAgent> {
    const agent = new EmbeddedAgent(options);
    process.once('exit', agent.#exit);
    try {
      await agent.#spawn();
    } catch (error) {
      agent.#discard();
      throw error;
    }
    return agent;
  }

  /** Where it is reached by a Unix socket. */
  get endpoint(): string {
    return `unix:${join(this.#directory, 'agent.sock')}`;
  }

  /** Where it is reached by TCP. Another port after a restart. */
  get tcpEndpoint(): string {
    return this.#ready?.endpoints.find((endpoint) => !endpoint.startsWith('unix:')) ?? '';
  }

  /** The token for TCP. Another one after a restart. */
  get token(): string {
    return readFileSync(this.#ready?.token_file ?? '', 'utf8').trim();
  }

  /** Its life: another one after a restart. */
  get instanceId(): string {
    return this.#ready?.instance_id ?? '';
  }

  get pid(): number {
    return this.#ready?.pid ?? 0;
  }

  /** The host that it is for, in a session of its own each time. Closed when the agent is stopped. */
  host(options?: HostOptions): Host {
    const host = new Host(this.endpoint, options);
    this.#hosts.add(host);
    return host;
  }

  /** Kills it, as a power cut would, and starts it again in the same place. */
  async restart(): Promise<void> {
    await this.#end('SIGKILL');
    await this.#spawn();
  }

  /** Stops it in good order. */
  async stop(): Promise<void> {
    await Promise.all([...this.#hosts].map((host) => host.close()));
    await this.#end('SIGTERM');
    process.off('exit', this.#exit);
    this.#discard();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #spawn(): Promise<void> {
    const { binary = process.env.FARSOCK_BIN || 'farsock', args = [] } = this.#options;
    const file = join(this.#directory, 'ready.json');
    const words = ['agent', '--listen', this.endpoint, '--listen', '127.0.0.1:0', '--ready-file', file, ...args];
    // What the environment says to agents is not meant for this one.
    const environment = Object.entries(process.env).filter(([name]) => !name.startsWith('FARSOCK_'));
    rmSync(file, { force: true });
    const watcher = watch(this.#directory);
    const child = spawn(binary, words, {
      env: { ...Object.fromEntries(environment), XDG_RUNTIME_DIR: this.#directory },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    this.#child = child;
    try {
      this.#ready = await ready(child, binary, watcher, file);
    } finally {
      watcher.close();
    }
    // The process need not wait for its agents.
    child.unref();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.ref();
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), PATIENCE);
    await gone;
    clearTimeout(late);
  }

  #discard(): void {
    this.#child?.kill('SIGKILL');
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** Waits for the file in which an agent says that it is ready. */
function ready(child: ChildProcess, binary: string, watcher: FSWatcher, file: string): Promise<Ready> {
  return new Promise((resolve, reject) => {
    const settle = (act: () => void) => {
      clearTimeout(late);
      child.removeAllListeners();
      act();
    };
    const late = setTimeout(() => {
      child.kill('SIGKILL');
      settle(() => reject(new Error(`${binary} agent was not ready within ${PATIENCE} ms`)));
    }, PATIENCE);
    child.once('error', (error) => settle(() => reject(new Error(`cannot start ${binary}: ${error.message}`, { cause: error }))));
    child.once('exit', (code) => settle(() => reject(new Error(`${binary} agent ended with ${code} before it was ready`))));
    watcher.on('change', () => {
      // It appears whole, once.
      if (existsSync(file)) settle(() => resolve(JSON.parse(readFileSync(file, 'utf8'))));
    });
  });
}
