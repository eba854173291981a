// What connect() does where it is not told: the defaults of this Node, until somebody changes them here.

import net from 'node:net';

/** Whether all addresses of a name are tried, and how long each has before the next one is tried, in milliseconds. */
export const autoSelect = {
  enabled: net.getDefaultAutoSelectFamily(),
  attemptTimeout: net.getDefaultAutoSelectFamilyAttemptTimeout(),
};
