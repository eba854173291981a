// A program that ends leaves nothing behind on far hosts: not when it has nothing more to do, and not at Ctrl-C. One that is killed, or calls
// process.exit(), cannot do anything any more: the agent closes its sockets when nobody renews their session.

/** Whose sessions are to be ended. */
interface Leaving {
  endSession(): Promise<void>;
}

/** The signals that end a program which does not listen for them. */
const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** Hosts that have a session. */
const hosts = new Set<Leaving>();

/** A host has a session from now on. */
export function enter(host: Leaving): void {
  if (hosts.size === 0) {
    process.on('beforeExit', endAll);
    for (const signal of SIGNALS) process.on(signal, interrupted);
  }
  hosts.add(host);
}

/** A host has none any more. */
export function leave(host: Leaving): void {
  if (!hosts.delete(host) || hosts.size > 0) return;
  process.off('beforeExit', endAll);
  for (const signal of SIGNALS) process.off(signal, interrupted);
}

async function endAll(): Promise<void> {
  await Promise.all([...hosts].map((host) => host.endSession()));
}

function interrupted(signal: NodeJS.Signals): void {
  // A program that listens for it decides by itself what becomes of it.
  if (process.listenerCount(signal) > 1) return;
  // Without a listener it ends the program: after the sessions, or at once when it comes again.
  process.off(signal, interrupted);
  void endAll().finally(() => process.kill(process.pid, signal));
}
