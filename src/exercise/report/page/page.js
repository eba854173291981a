// Draws a run from the data block of the page. Everything that hosts or peers have said is put in as text, never as markup.
(() => {
  'use strict';
  const data = JSON.parse(document.getElementById('data').textContent);
  const SVG = 'http://www.w3.org/2000/svg';
  const ROW = 28, PAUSE = 22, HEAD = 54, TIME = 92, SIDE = 142, COLUMN = 150;
  const PAUSE_NS = 100e6;

  // === Building blocks ===

  function fill(node, props, kids) {
    for (const [name, value] of Object.entries(props || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value === true ? '' : String(value));
    }
    for (const kid of kids.flat(Infinity)) if (kid !== undefined && kid !== null && kid !== false) node.append(kid);
    return node;
  }
  const h = (tag, props, ...kids) => fill(document.createElement(tag), props, kids);
  const s = (tag, props, ...kids) => fill(document.createElementNS(SVG, tag), props, kids);

  // Control characters, and those that turn, hide or join other text, are shown as escapes.
  const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/u;
  const SHORT = { 9: '\\t', 10: '\\n', 13: '\\r', 27: '\\e', 0: '\\0' };
  const escaped = c => SHORT[c.codePointAt(0)] ?? `\\u{${c.codePointAt(0).toString(16)}}`;
  const plain = text => Array.from(String(text), c => (HIDDEN.test(c) ? escaped(c) : c)).join('');
  const cut = (text, room) => {
    const all = Array.from(plain(text));
    return all.length > room ? all.slice(0, Math.max(room - 1, 1)).join('') + '…' : all.join('');
  };

  // What stands between backticks is a word of the file or of the protocol.
  const prose = text => plain(text).split('`').map((part, at, all) => (at % 2 && at < all.length - 1 ? h('code', {}, part) : part));

  const count = (n, one, many) => `${n.toLocaleString('en')} ${n === 1 ? one : many || one + 's'}`;
  const seconds = ns => (ns / 1e9).toFixed(6).replace(/(\d{3})(\d{3})$/, '$1\u202f$2');
  const span = ns => ns >= 1e9 ? `${(ns / 1e9).toFixed(2)} s` : ns >= 1e6 ? `${(ns / 1e6).toFixed(2)} ms` : `${(ns / 1e3).toFixed(1)} µs`;
  const offset = ns => `${ns < 0 ? '−' : '+'}${span(Math.abs(ns))}`;
  const WORDS = { passed: 'PASSED', failed: 'FAILED', could_not_run: 'COULD NOT RUN', running: 'NOT ENDED' };
  const MARKS = { passed: '✓', failed: '✗', could_not_run: '!' };
  const TONES = { passed: 'ok', failed: 'bad', could_not_run: 'warn' };
  const key = place => `${place.host} ${place.event_seq}`;

  // === One run, prepared ===

  function prepare(run) {
    const roles = run.exercise.roles;
    const hosts = new Map((run.hosts || []).map(host => [host.role, host]));
    const names = new Map(run.sockets.map(it => [`${it.host} ${it.socket_id}`, it.name]));
    const events = new Map();
    const marks = new Map();
    for (const step of run.steps) if (step.evidence && step.result === 'passed') marks.set(key(step.evidence), step);
    for (const item of run.items) {
      if (!item.event) continue;
      const event = item.event;
      event.key = key(event);
      event.column = roles.indexOf(event.host);
      event.socket = names.get(`${event.host} ${event.socket_id}`) ?? event.name ?? event.socket_id ?? '';
      event.bound = hosts.get(event.host)?.clock_bound_ns ?? 0;
      event.step = marks.get(event.key);
      event.effects = [];
      events.set(event.key, event);
    }
    // A cause that was told too late knows what it has led to, which knew nothing of it.
    for (const event of events.values()) {
      const effect = event.effect_before && events.get(key(event.effect_before));
      if (effect) effect.caused_by ??= { host: event.host, event_seq: event.event_seq };
    }
    for (const event of events.values()) {
      if (!event.caused_by) continue;
      event.cause = events.get(key(event.caused_by));
      event.cause?.effects.push(event);
    }
    return { ...run, roles, hostOf: hosts, events };
  }

  // === The page ===

  const state = { run: null, hidden: new Set(), socket: '', kind: '', text: '', minor: false, axis: 'order', selected: null, view: 'text' };
  const root = document.getElementById('page');
  let ladderBox, pane, countBox, shown = [];

  function open(run) {
    Object.assign(state, { run: prepare(run), hidden: new Set(), socket: '', kind: '', text: '', selected: null });
    const { exercise } = state.run;
    document.title = `${plain(exercise.title)} · farsock`;
    root.replaceChildren(...[
      data.runs.length > 1 && runList(run), masthead(), failures(), hostTable(), diagram(), source(), environment(),
    ].filter(Boolean));
    draw();
    const first = state.run.steps.find(step => step.result !== 'passed');
    const near = first && nearest(first);
    if (near) select(near, false);
  }

  function runList(current) {
    const button = run => {
      const result = run.result?.result ?? 'running';
      return h('button', { 'aria-pressed': run === current, onclick: () => { open(run); scrollTo(0, 0); } },
        h('span', { class: TONES[result] ?? 'warn' }, MARKS[result] ?? '!'), cut(run.exercise.title, 60));
    };
    return h('nav', { class: 'runs', 'aria-label': 'Exercises' }, data.runs.map(button));
  }

  function masthead() {
    const { exercise, result } = state.run;
    const word = result?.result ?? 'running';
    const tally = result
      ? `${result.passed} of ${count(result.steps, 'step')} passed · ${result.failed} failed · ${result.not_reached} not reached · ${span(result.elapsed_ns)}`
      : 'the run was cut short before it could say how it went';
    return h('header', {},
      h('div', { class: 'masthead' },
        h('div', { class: 'verdict' }, h('span', { class: `pill ${word}` }, WORDS[word]), h('h1', {}, plain(exercise.title))),
        h('p', { class: 'tally' }, tally),
        h('div', { class: 'origin' }, h('div', { class: 'mono' }, plain(exercise.file)), h('div', {}, plain(exercise.started.slice(0, 19).replace('T', ' ')), ' UTC'))),
      exercise.about && h('p', { class: 'about' }, plain(exercise.about).replaceAll('\\n', '\n').trim()));
  }

  // === Failures, first ===

  function failures() {
    const { steps, result } = state.run;
    const failed = steps.filter(step => step.result !== 'passed');
    if (!failed.length && !result?.problem) return null;
    return h('section', { id: 'failures' }, h('h2', {}, count(failed.length + (result?.problem ? 1 : 0), 'failure')),
      failed.map(failure),
      result?.problem && h('article', { class: 'failure could_not_run' },
        h('header', {}, h('span', {}, 'the run')), h('p', { class: 'message' }, plain(result.problem))));
  }

  function failure(step) {
    const near = nearest(step);
    const about = [step.host, step.verb, step.socket].filter(Boolean).map(plain).join(' · ');
    const seen = step.label !== step.message && step.label;
    const advice = step.advice ?? [];
    return h('article', { class: `failure ${step.result}` },
      h('header', {}, h('span', {}, `step ${step.number} · ${about}`),
        h('span', {}, h('button', { class: 'link', onclick: () => jump(step) }, `${step.file ? plain(step.file) + ' ' : ''}line ${step.line}`), near && '  ·  ',
          near && h('button', { class: 'link', onclick: () => select(near, true) }, 'show in the diagram'))),
      h('p', { class: 'message' }, prose(step.message ?? '')),
      h('dl', {},
        seen && [h('dt', {}, 'seen'), h('dd', { class: 'mono' }, plain(seen))],
        advice.map((line, at) => [h('dt', {}, at ? '' : 'likely cause'), h('dd', {}, prose(line))])),
      h('div', { class: 'snippet' }, codeLines(step.line - 3, step.line + 2, step.file)),
      step.command && h('details', { class: 'call' }, h('summary', {}, 'the same by grpcurl'), h('pre', { class: 'mono', tabindex: '0' }, plain(step.command)),
        h('p', { class: 'soft' }, prose('It is the last call of the step. `farsock env` tells the address and the credentials where they are missing.'))));
  }

  // The event that a failed step is the closest to: its own, or the last one of its socket before it.
  function nearest(step) {
    const own = step.evidence && state.run.events.get(key(step.evidence));
    if (own) return own;
    let last = null;
    for (const item of state.run.items) {
      if (item.step === step.number) break;
      if (item.event && item.event.host === step.host && item.event.label && (item.event.socket === step.socket || !step.socket)) last = item.event;
    }
    return last;
  }

  // === Hosts ===

  function hostTable() {
    if (!state.run.hosts) return null;
    const row = host => h('tr', {},
      h('td', {}, h('strong', {}, plain(host.role))), h('td', { class: 'mono' }, plain(host.lab_address)), h('td', { class: 'mono' }, plain(host.agent)),
      h('td', {}, plain(host.version)), h('td', { class: 'num' }, offset(host.clock_offset_ns)), h('td', { class: 'num' }, `±${span(host.clock_bound_ns)}`));
    const head = ['Host', 'Lab address', 'Agent', 'Version'].map(name => h('th', { scope: 'col' }, name));
    const numbers = ['Clock ahead by', 'Known within'].map(name => h('th', { scope: 'col', class: 'num' }, name));
    return h('section', {}, h('h2', {}, 'Hosts'),
      h('div', { class: 'hosts' }, h('table', {}, h('thead', {}, h('tr', {}, head, numbers)), h('tbody', {}, state.run.hosts.map(row)))));
  }

  // === The diagram and its filters ===

  function diagram() {
    const all = [...state.run.events.values()];
    const sorted = values => [...new Set(values)].filter(Boolean).sort();
    const choose = (name, values, field) => h('label', { class: 'group' }, h('span', { class: 'name' }, name),
      h('select', { id: `filter-${field}`, onchange: e => { state[field] = e.target.value; draw(); } },
        h('option', { value: '' }, 'all'), values.map(value => h('option', { value }, cut(value, 40)))));
    const hostChip = role => h('button', {
      class: 'chip', 'aria-pressed': 'true', 'data-host': role,
      onclick: e => {
        if (!state.hidden.delete(role)) state.hidden.add(role);
        e.currentTarget.setAttribute('aria-pressed', String(!state.hidden.has(role)));
        draw();
      },
    }, plain(role));
    const axis = (value, name) => h('button', {
      class: 'chip', 'aria-pressed': String(state.axis === value), 'data-axis': value,
      onclick: e => {
        state.axis = value;
        for (const other of e.currentTarget.parentNode.children) other.setAttribute('aria-pressed', String(other === e.currentTarget));
        draw();
      },
    }, name);
    const missing = state.run.items.reduce((sum, item) => sum + (item.omitted ?? 0), 0);
    const wrong = all.filter(event => event.before_cause_ns).length;
    ladderBox = h('div', { class: 'ladder', id: 'ladder', tabindex: '0', 'aria-label': 'Sequence of events', onkeydown: keys });
    pane = h('aside', { class: 'detail-pane', id: 'detail', 'aria-live': 'polite' });
    countBox = h('span', { class: 'count', id: 'count' });
    return h('section', {}, h('h2', {}, 'What happened'),
      wrong > 0 && h('p', { class: 'notice', id: 'contradictions' },
        `By the clocks, ${count(wrong, 'event')} came before what led to ${wrong === 1 ? 'it' : 'them'}: a clock was set, or goes wrong. They stand where they must have been, and their times are marked !.`),
      missing > 0 && h('p', { class: 'notice', id: 'not-drawn' },
        `${missing.toLocaleString('en')} of ${count(missing + all.length, 'event')} are not drawn: they would be too many for a page. The lines of --json and of a run folder have them all.`),
      h('div', { class: 'tools' },
        h('div', { class: 'group', role: 'group', 'aria-label': 'Hosts' }, h('span', { class: 'name' }, 'Hosts'), state.run.roles.map(hostChip)),
        choose('Socket', sorted(all.map(event => event.socket)), 'socket'),
        choose('Kind', sorted(all.map(event => event.kind)), 'kind'),
        h('label', { class: 'group' }, h('span', { class: 'name' }, 'Text'),
          h('input', { type: 'search', id: 'filter-text', oninput: e => { state.text = e.target.value; draw(); } })),
        h('label', { class: 'group' }, h('input', { type: 'checkbox', id: 'filter-minor', onchange: e => { state.minor = e.target.checked; draw(); } }),
          h('span', { class: 'name' }, 'minor events')),
        h('div', { class: 'group' }, h('span', { class: 'name' }, 'Rows by'), h('div', { class: 'seg' }, axis('order', 'order'), axis('time', 'time'))),
        countBox),
      h('div', { class: 'stage' }, ladderBox, pane),
      h('p', { class: 'legend' },
        h('span', {}, '┄► inferred from what both ends told, not captured'), h('span', {}, '● event'), h('span', { class: 'bad' }, '● trouble'), h('span', {}, '○ socket closed'),
        h('span', { class: 'ok' }, '✓ a step waited for it'), h('span', {}, '≈ nearer to the line above than the clocks are known: either may have been first'),
        h('span', {}, h('kbd', {}, 'j'), ' ', h('kbd', {}, 'k'), ' next, previous')));
  }

  function wanted(event) {
    if (event.column < 0 || state.hidden.has(event.host) || (!state.minor && !event.label)) return false;
    if (state.socket && event.socket !== state.socket) return false;
    if (state.kind && event.kind !== state.kind) return false;
    if (!state.text) return true;
    return [event.text, event.kind, event.socket, event.host].some(text => String(text).toLowerCase().includes(state.text.toLowerCase()));
  }

  // Gives every row its height: one after the other, or by time, where later rows never stand above earlier ones.
  function layOut() {
    const rows = [];
    let y = 12, last = null, begin = null, end = 0;
    const filtered = state.socket || state.kind || state.text || state.hidden.size;
    for (const item of state.run.items) {
      if (item.omitted) rows.push({ omitted: item.omitted });
      else if (item.step) { if (!filtered) rows.push({ step: state.run.steps.find(step => step.number === item.step) }); }
      else if (wanted(item.event)) {
        rows.push({ event: item.event });
        begin = Math.min(begin ?? item.event.at_ns, item.event.at_ns);
        end = Math.max(end, item.event.at_ns);
      }
    }
    const height = Math.min(Math.max(rows.length * ROW, 420), 24000);
    const scale = height / Math.max(end - (begin ?? 0), 1);
    for (const row of rows) {
      if (row.event && state.axis === 'time') {
        y = Math.max(y, 20 + (row.event.at_ns - begin) * scale);
        row.y = y;
        row.scale = scale;
      } else {
        if (state.axis === 'order' && row.event && last && row.event.at_ns - last.at_ns >= PAUSE_NS) {
          row.pause = row.event.at_ns - last.at_ns;
          y += PAUSE;
        }
        y += row.event && state.axis === 'time' ? 0 : ROW;
        row.y = y - ROW / 2;
      }
      if (row.event) {
        const e = row.event;
        row.unordered = last && last.host !== e.host && e.cause !== last && Math.abs(e.at_ns - last.at_ns) <= e.bound + last.bound;
        last = e;
      }
    }
    return { rows, height: y + 28 };
  }

  function draw() {
    const roles = state.run.roles.filter(role => !state.hidden.has(role));
    // Columns share what room there is; below their least width, the diagram scrolls.
    const frame = ladderBox.clientWidth - 2;
    const column = Math.max(COLUMN, Math.min(360, (frame - TIME - 2 * SIDE) / Math.max(roles.length - 1, 1)));
    const side = Math.max(SIDE, Math.min(250, (frame - TIME - (roles.length - 1) * column) / 2));
    const x = new Map(roles.map((role, at) => [role, TIME + side + at * column]));
    const width = Math.max(TIME + 2 * side + (roles.length - 1) * column, frame);
    const { rows, height } = layOut();
    shown = rows.filter(row => row.event).map(row => row.event);
    const total = state.run.events.size;
    countBox.textContent = `${shown.length.toLocaleString('en')} of ${count(total, 'event')} shown`;
    if (!roles.length || !rows.length) {
      ladderBox.replaceChildren(h('p', { class: 'empty' }, total ? 'Nothing passes these filters.' : 'Nothing has happened.'));
      return;
    }
    const heads = roles.map(role => {
      const host = state.run.hostOf.get(role);
      return [s('text', { class: 'role', x: x.get(role), y: 22, 'text-anchor': 'middle' }, cut(role, 24)),
        host && s('text', { class: 'place', x: x.get(role), y: 40, 'text-anchor': 'middle' }, cut(host.lab_address, 28))];
    });
    const header = s('svg', { class: 'roles', width, height: HEAD, role: 'presentation' }, s('text', { class: 'time', x: TIME - 12, y: 22 }, 'seconds'), heads);
    const lifelines = roles.map(role => s('line', { class: 'lifeline', x1: x.get(role), x2: x.get(role), y1: 0, y2: height }));
    const ys = new Map(rows.filter(row => row.event).map(row => [row.event.key, row.y]));
    const place = { x, width, column, side, ys };
    const free = new Map();
    const bodies = rows.map(row => row.event ? drawEvent(row, place, free) : drawNote(row, place));
    const arrows = rows.filter(row => row.event).map(row => drawArrow(row, place)).filter(Boolean);
    const body = s('svg', { class: 'rungs', width, height, role: 'group' }, bodies.map(it => it.back), lifelines, arrows, bodies.map(it => it.front));
    ladderBox.replaceChildren(header, body);
    mark();
  }

  function drawEvent(row, { x, width, column, side }, free) {
    const { event, y } = row;
    const at = x.get(event.host);
    const group = s('g', { class: `event ${event.tone}`, 'data-key': event.key, onclick: () => select(event, false) },
      s('rect', { class: 'hit', x: 0, y: y - ROW / 2, width, height: ROW }),
      s('title', {}, `${plain(event.host)} ${plain(event.socket)}: ${plain(event.text)}${event.before_cause_ns ? `, ${contradiction(event)}` : ''}`));
    const from = arrowFrom(event, x);
    // Words stand on the side where no arrow begins or ends.
    const ends = [from, ...event.effects.map(effect => effect.host !== event.host && wanted(effect) ? x.get(effect.host) : null)];
    const left = ends.some(end => end > at) && !ends.some(end => end !== null && end !== undefined && end < at);
    // Side by side in time, labels of one host would cover each other: then only the first one is written.
    const crowded = state.axis === 'time' && y - (free.get(event.host) ?? -99) < 15;
    if (!crowded) free.set(event.host, y);
    const front = [];
    if (!crowded) {
      const words = from === null ? event.label ?? event.kind : '';
      const said = [event.socket, event.detail].filter(Boolean).map(plain).join('  ');
      const columns = [...x.values()];
      const spare = Math.floor((((left ? at === columns[0] : at === columns.at(-1)) ? side : column) - 30 - (event.step ? 14 : 0)) / 7.1);
      const anchor = left ? { x: at - 14, 'text-anchor': 'end' } : { x: at + 14 };
      const label = words && s('tspan', { class: 'label' }, cut(words, spare));
      const rest = spare - Array.from(words).length - 2;
      const detail = said && rest > 3 && s('tspan', { class: 'detail', dx: words ? 8 : 0 }, cut(said, rest));
      const tick = event.step && s('tspan', { class: 'tick', dx: 6 }, '✓');
      front.push(s('text', { ...anchor, class: 'words', y: y + 4 }, label, detail, tick));
    }
    const bar = row.scale && event.bound * row.scale > 1.5
      ? s('path', { class: 'bound', d: `M${at - 4} ${y - event.bound * row.scale}h8m-4 0V${y + event.bound * row.scale}m-4 0h8`, fill: 'none' }) : null;
    const lastTime = free.get(' time') ?? -99;
    const sign = event.before_cause_ns ? '! ' : row.unordered ? '≈ ' : '';
    const time = y - lastTime >= 13 ? s('text', { class: `time ${event.before_cause_ns ? 'warn' : ''}`, x: TIME - 12, y: y + 4 }, sign + seconds(event.at_ns)) : null;
    if (time) free.set(' time', y);
    const pause = row.pause ? [s('line', { class: 'pause-rule', x1: TIME, x2: width, y1: y - ROW / 2 - PAUSE / 2, y2: y - ROW / 2 - PAUSE / 2 }),
      s('text', { class: 'pause', x: TIME - 12, y: y - ROW / 2 - PAUSE / 2 + 4, 'text-anchor': 'end' }, `+ ${span(row.pause)}`)] : [];
    const front2 = s('g', { class: `${event.tone}`, 'pointer-events': 'none' }, bar, s('circle', { class: 'dot', cx: at, cy: y, r: 4.5 }), front, time, pause);
    return { back: group, front: front2 };
  }

  const contradiction = event => `by the clocks ${span(event.before_cause_ns)} before its cause`;

  // Where the arrow to an event begins, if it has one.
  function arrowFrom(event, x) {
    const host = event.caused_by?.host;
    return host === undefined || host === event.host || !x.has(host) ? null : x.get(host);
  }

  function drawArrow(row, { x, ys }) {
    const { event, y } = row;
    const from = arrowFrom(event, x);
    if (from === null) return null;
    const to = x.get(event.host), way = Math.sign(to - from);
    // Where the cause is not drawn, the arrow comes from just above.
    const begin = Math.min((event.cause && ys.get(event.cause.key)) ?? y - ROW / 2, y);
    const x1 = from + way * 6, x2 = to - way * 6;
    const angle = Math.atan2(y - begin, x2 - x1);
    const head = [[0, 0], [-8, -4], [-8, 4]].map(([a, b]) =>
      `${x2 + a * Math.cos(angle) - b * Math.sin(angle)},${y + a * Math.sin(angle) + b * Math.cos(angle)}`).join(' ');
    // The label stands where the arrow arrives, because several may begin at one place.
    const part = 0.56;
    return s('g', { class: `arrow ${event.tone}`, 'data-from': event.caused_by.host, 'data-to': event.host, 'data-key': event.key },
      s('line', { x1, y1: begin, x2: x2 - 6 * Math.cos(angle), y2: y - 6 * Math.sin(angle) }),
      s('polygon', { points: head }),
      s('text', { class: 'label', x: x1 + (x2 - x1) * part, y: begin + (y - begin) * part + 4 }, cut(event.label ?? event.kind, 22)));
  }

  function drawNote(row, { x, width }) {
    const { y, step, omitted } = row;
    if (omitted) {
      return { back: null, front: s('g', {}, s('line', { class: 'pause-rule', x1: TIME, x2: width, y1: y, y2: y }),
        s('text', { class: 'said warn', x: TIME + 20, y: y + 4 }, `${count(omitted, 'event')} not drawn here`)) };
    }
    const good = step.result === 'passed';
    const at = x.get(step.host) ?? TIME;
    const words = good ? `✓ ${plain(step.finding)}` : `${MARKS[step.result]} step ${step.number}: ${plain(step.message ?? '')}`;
    const room = Math.floor((width - at - 30) / 6.4);
    return { back: null, front: s('text', { class: `said ${good ? '' : TONES[step.result]}`, x: at + 14, y: y + 4 }, cut(words, Math.max(room, 30))) };
  }

  // === Choosing an event ===

  function select(event, scroll) {
    state.selected = event;
    mark();
    detail(event);
    const node = ladderBox.querySelector(`.event[data-key="${CSS.escape(event.key)}"]`);
    if (!node) return;
    const box = node.getBoundingClientRect(), frame = ladderBox.getBoundingClientRect();
    if (box.top < frame.top + HEAD || box.bottom > frame.bottom) ladderBox.scrollTop += box.top - frame.top - frame.height / 2;
    if (scroll) ladderBox.scrollIntoView({ block: 'center' });
  }

  function mark() {
    const chosen = state.selected;
    const related = new Set(chosen ? [chosen.cause, ...chosen.effects].filter(Boolean).map(event => event.key) : []);
    for (const node of ladderBox.querySelectorAll('.event')) {
      node.classList.toggle('selected', node.dataset.key === chosen?.key);
      node.classList.toggle('related', related.has(node.dataset.key));
    }
    if (!chosen) pane.replaceChildren(h('h2', {}, 'Event'), h('p', { class: 'soft' }, 'Choose an event to see its addresses, its times and its bytes.'));
  }

  function keys(e) {
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[e.key];
    if (!step || !shown.length) return;
    e.preventDefault();
    const at = shown.indexOf(state.selected);
    select(shown[Math.min(Math.max(at + step, 0), shown.length - 1)], false);
  }

  const PLAIN = new Set(['at_ns', 'host', 'event_seq', 'time', 'socket_id', 'socket_uid', 'name', 'request_id', 'kind', 'text', 'label', 'detail', 'tone',
    'caused_by', 'unordered', 'before_cause_ns', 'effect_before', 'hex', 'hex_cut', 'error', 'key', 'column', 'socket', 'bound', 'step', 'effects', 'cause']);

  function detail(event) {
    const link = other => h('button', { class: 'link', onclick: () => select(other, false) }, `${plain(other.host)} ${plain(other.socket)}: ${plain(other.kind)}`);
    const rows = [
      ['kind', h('code', {}, plain(event.kind))],
      ['host', plain(event.host)],
      event.socket && ['socket', [plain(event.socket), event.socket !== event.socket_id && h('span', { class: 'soft' }, ` (${plain(event.socket_id)} on the agent)`)]],
      ['time', [`${seconds(event.at_ns)} s `, h('span', { class: 'soft' }, `±${span(event.bound)}`)]],
      ['agent’s clock', plain(event.time)],
      ...Object.entries(event).filter(([name]) => !PLAIN.has(name)).map(([name, value]) => [plain(name).replaceAll('_', ' '), plain(typeof value === 'object' ? JSON.stringify(value) : value)]),
      event.error && ['error', [h('code', {}, plain(event.error.name)), ` (${event.error.number})`]],
      ['number', `${event.event_seq} of ${plain(event.host)}`],
      event.request_id && ['request', h('code', {}, plain(event.request_id))],
      event.step && ['checked by', h('button', { class: 'link', onclick: () => jump(event.step) }, `step ${event.step.number}, line ${event.step.line}`)],
      event.cause && ['caused by', link(event.cause)],
      event.before_cause_ns && ['contradiction', `${contradiction(event)}: one of them was set, or goes wrong`],
      event.effect_before && ['told too late', 'what it led to stands above it'],
      ...event.effects.map((effect, at) => [at ? '' : 'led to', link(effect)]),
    ].filter(Boolean);
    pane.replaceChildren(h('h2', {}, 'Event'), h('h3', {}, plain(event.text)),
      h('table', {}, h('tbody', {}, rows.map(([name, value]) => h('tr', {}, h('th', { scope: 'row' }, name), h('td', {}, value))))),
      ...(event.hex === undefined ? [] : payload(event)));
    pane.scrollTop = 0;
  }

  // === Bytes ===

  function payload(event) {
    const bytes = Uint8Array.from(event.hex.match(/../g) ?? [], pair => parseInt(pair, 16));
    const box = h('div', {});
    const views = { text: () => h('pre', { class: 'payload text', tabindex: '0' }, textOf(bytes)), hex: () => h('pre', { class: 'payload', tabindex: '0' }, dump(bytes)) };
    const show = view => {
      state.view = view;
      for (const button of tabs.children) button.setAttribute('aria-pressed', String(button.dataset.view === view));
      box.replaceChildren(bytes.length ? views[view]() : h('p', { class: 'soft' }, 'no bytes'));
    };
    const tabs = h('div', { class: 'seg' }, ['text', 'hex'].map(view => h('button', { class: 'chip', 'data-view': view, onclick: () => show(view) }, view)));
    show(state.view);
    const note = event.hex_cut ? h('p', { class: 'soft' }, `The first ${count(bytes.length, 'byte')} of ${Number(event.hex_cut).toLocaleString('en')}.`) : '';
    return [tabs, box, note];
  }

  function textOf(bytes) {
    const parts = [];
    let run = '';
    for (const c of new TextDecoder().decode(bytes)) {
      if (!HIDDEN.test(c)) { run += c; continue; }
      parts.push(run, h('span', { class: 'esc' }, escaped(c)));
      run = c === '\n' ? '\n' : '';
    }
    return [...parts, run];
  }

  function dump(bytes) {
    const lines = [];
    for (let at = 0; at < bytes.length; at += 8) {
      const part = Array.from(bytes.subarray(at, at + 8));
      const hex = part.map(byte => byte.toString(16).padStart(2, '0')).join(' ').padEnd(23);
      const ascii = part.map(byte => (byte > 31 && byte < 127 ? String.fromCharCode(byte) : '·')).join('');
      lines.push(h('span', { class: 'off' }, at.toString(16).padStart(4, '0')), `  ${hex}  ${ascii}\n`);
    }
    return lines;
  }

  // === The exercise ===

  function source() {
    const included = state.run.exercise.included ?? [];
    return h('section', { id: 'source' }, h('h2', {}, 'The exercise'), h('div', { class: 'source' }, codeLines(1, Infinity, undefined, true)),
      included.map(({ file }) => [h('h3', {}, plain(file)), h('div', { class: 'source' }, codeLines(1, Infinity, file, true))]));
  }

  const lineId = (file, no) => file ? `line-${file}-${no}` : `line-${no}`;

  // Lines of the exercise, or of a file that it includes.
  function codeLines(from, to, file, whole = false) {
    const text = file ? state.run.exercise.included?.find(it => it.file === file)?.source ?? '' : state.run.exercise.source;
    const lines = text.replace(/\n$/, '').split('\n');
    const done = new Map();
    for (const step of state.run.steps) if (step.file === file) if (!done.has(step.line) || step.result !== 'passed') done.set(step.line, step);
    const planned = new Map(state.run.exercise.plan.filter(step => step.file === file).map(step => [step.line, step]));
    const rows = [];
    for (let no = Math.max(from, 1); no <= Math.min(to, lines.length); no++) {
      const step = done.get(no), plan = planned.get(no);
      const mark = step ? MARKS[step.result] : plan ? '–' : '';
      const took = step ? `step ${step.number} · ${span(step.elapsed_ns)}` : plan ? 'not reached' : '';
      rows.push(h('div', { class: `code ${step ? `step ${step.result}` : ''}`, id: whole && lineId(file, no), onclick: step && (() => { const near = nearest(step); if (near) select(near, true); }) },
        h('span', { class: `mark ${step ? TONES[step.result] : 'soft'}` }, mark), h('span', { class: 'no' }, no), h('span', {}, yaml(lines[no - 1])), h('span', { class: 'took' }, took)));
      if (whole && step && step.result !== 'passed') {
        rows.push(h('p', { class: `remark ${step.result}` }, [step.message, ...(step.advice ?? [])].map((line, at) => [at ? '\n' : '', prose(line)])));
      }
    }
    return rows;
  }

  function yaml(line) {
    const comment = /^\s*#/.test(line) ? 0 : line.search(/\s#/);
    const code = comment < 0 ? line : line.slice(0, comment);
    const match = /^(\s*(?:- )?\s*)([\w-]+)(:.*)$/.exec(code);
    const parts = match ? [plain(match[1]), h('span', { class: 'key' }, plain(match[2])), plain(match[3])] : [plain(code)];
    return comment < 0 ? parts : [...parts, h('span', { class: 'comment' }, plain(line.slice(comment)))];
  }

  function jump(step) {
    document.getElementById(lineId(step.file, step.line))?.scrollIntoView({ block: 'center' });
  }

  function environment() {
    const { exercise } = state.run;
    return h('footer', {}, `farsock ${plain(exercise.version)} · this page holds everything it shows and asks no network for anything · again: `,
      h('code', {}, plain(exercise.again)));
  }

  const worst = ['could_not_run', 'failed'].map(word => data.runs.find(run => run.result?.result === word)).find(Boolean);
  open(worst ?? data.runs[0]);
  let resizing;
  addEventListener('resize', () => { cancelAnimationFrame(resizing); resizing = requestAnimationFrame(draw); });
})();
