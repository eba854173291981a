// Opens the pages of `farsock run --html` in headless Chromium, and looks at them as a reader would: `node page.mjs PASSING FAILING REFUSED LARGE CONTRADICTED [SHOTS]`.
import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import puppeteer from 'puppeteer-core';

const [passing, failing, refused, large, contradicted, shots] = process.argv.slice(2);
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  // CI runs as root, in containers; the page is our own.
  args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
});

// A page, opened from its file, with everything that it complained about or asked for.
async function open(file, scheme = 'light') {
  const page = await browser.newPage();
  const complaints = [];
  const requests = [];
  page.on('console', message => complaints.push(message.text()));
  page.on('pageerror', error => complaints.push(String(error)));
  page.on('dialog', dialog => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  page.on('request', request => requests.push(request.url()));
  await page.setViewport({ width: 1440, height: 1000 });
  await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
  await page.goto(pathToFileURL(file).href, { waitUntil: 'load' });
  return { page, complaints, requests };
}

const texts = (page, selector) => page.$$eval(selector, nodes => nodes.map(node => node.textContent));
const number = (page, selector) => page.$$eval(selector, nodes => nodes.length);
const data = page => page.$eval('#data', node => JSON.parse(node.textContent));
const shot = async (page, name) => shots && page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });

// === Five hosts ===
{
  const { page, complaints, requests } = await open(passing);
  assert.deepEqual(await texts(page, '.pill'), ['PASSED']);
  assert.equal(await number(page, '.lifeline'), 5);
  assert.deepEqual(await texts(page, '.roles .role'), ['server', 'alice', 'bob', 'carol', 'dave']);
  const [run] = (await data(page)).runs;
  const events = run.items.filter(item => item.event).map(item => item.event);
  const arrows = events.filter(event => event.label && event.caused_by && event.caused_by.host !== event.host);
  assert.ok(arrows.length >= 10, `${arrows.length} arrows`);
  assert.equal(await number(page, '.arrow'), arrows.length);
  assert.equal(await number(page, '.event'), events.filter(event => event.label).length);
  // Later is lower, and an arrow goes down.
  const slants = await page.$$eval('.arrow line', lines => lines.map(line => line.getAttribute('y2') - line.getAttribute('y1')));
  assert.ok(slants.every(slant => slant > 0), `${slants}`);
  await shot(page, 'five-hosts-light');

  // A script in a payload is text, in the diagram and in full.
  const hostile = events.find(event => event.text.includes('script'));
  await page.$eval(`.event[data-key="${hostile.host} ${hostile.event_seq}"]`, node => node.dispatchEvent(new MouseEvent('click', { bubbles: true })));
  assert.match(await page.$eval('.payload', node => node.textContent), /<\/script><script>document\.title='owned'/);
  assert.equal(await number(page, 'script'), 2, 'the data and the page’s own');
  assert.equal(await number(page, 'img'), 0);
  assert.notEqual(await page.title(), 'owned');
  await page.$$eval('[data-view="hex"]', ([button]) => button.click());
  assert.match(await page.$eval('.payload', node => node.textContent), /3c 2f 73 63 72 69 70 74/);
  await shot(page, 'five-hosts-detail');

  // Filters: one host less is one lifeline less; a kind leaves only its events; text finds what peers have said.
  await page.$eval('[data-host="dave"]', button => button.click());
  assert.equal(await number(page, '.lifeline'), 4);
  await page.$eval('[data-host="dave"]', button => button.click());
  await page.select('#filter-kind', 'peer_reset');
  assert.equal(await number(page, '.event'), events.filter(event => event.kind === 'peer_reset').length);
  await page.select('#filter-kind', '');
  await page.select('#filter-socket', 'guest-a');
  assert.ok(await number(page, '.event') > 0);
  assert.ok((await texts(page, '.event title')).every(title => title.includes('guest-a')));
  await page.select('#filter-socket', '');
  await page.type('#filter-text', 'hola alice');
  assert.equal(await number(page, '.event'), 1);
  await page.$eval('#filter-text', box => { box.value = ''; box.dispatchEvent(new Event('input')); });
  await page.$eval('[data-axis="time"]', button => button.click());
  assert.equal(await number(page, '.arrow'), arrows.length);
  await shot(page, 'five-hosts-time');

  // Every step has its mark beside its line.
  assert.equal((await texts(page, '#source .mark')).filter(mark => mark === '✓').length, run.exercise.steps);
  assert.deepEqual(complaints, []);
  assert.deepEqual(requests.filter(url => !url.startsWith('file:')), [], 'nothing is fetched');
  await page.close();
  const dark = await open(passing, 'dark');
  await shot(dark.page, 'five-hosts-dark');
  assert.deepEqual(dark.complaints, []);
  await dark.page.close();
}

// === A run that failed ===
for (const scheme of ['light', 'dark']) {
  const { page, complaints } = await open(failing, scheme);
  assert.deepEqual(await texts(page, '.pill'), ['FAILED']);
  assert.equal(await page.$eval('section', section => section.id), 'failures', 'failures stand first');
  const [run] = (await data(page)).runs;
  const failed = run.steps.find(step => step.result === 'failed');
  assert.ok((await page.$eval('.failure .message', node => node.textContent)).includes(failed.message.replaceAll('`', '')));
  const marks = await page.$$eval('#source .code', lines => lines.map(line => line.querySelector('.mark').textContent));
  assert.equal(marks[failed.line - 1], '✗');
  assert.equal(marks.filter(mark => mark === '–').length, run.result.not_reached);
  assert.ok(await number(page, '.detail-pane h3'), 'what the failure is about is chosen already');
  await shot(page, `failing-${scheme}`);
  assert.deepEqual(complaints, []);
  await page.close();
}

// === A call that went wrong: it can be made again by grpcurl, and the run by farsock ===
{
  const { page, complaints } = await open(refused);
  const [run] = (await data(page)).runs;
  const failed = run.steps.find(step => step.result === 'failed');
  assert.ok(failed.command.startsWith("grpcurl -d '{") && failed.command.endsWith(' farsock.v1.SocketService/CreateSocket'), failed.command);
  assert.deepEqual(await texts(page, '.call pre'), [failed.command]);
  assert.ok(failed.command.includes('</script>'), 'what an exercise says is text there, too');
  assert.equal(await number(page, 'script'), 2);
  await page.$eval('.call summary', summary => summary.click());
  assert.ok(await page.$eval('.call', call => call.open && call.scrollWidth <= call.clientWidth));
  assert.match(run.exercise.again, / run exercises\/refused\.yaml$/);
  assert.deepEqual(await texts(page, 'footer code'), [run.exercise.again]);
  await shot(page, 'refused');
  assert.deepEqual(complaints, []);
  await page.close();
}

// === Clocks that are known badly, and contradict what came of what ===
{
  const { page, complaints } = await open(contradicted);
  const events = (await data(page)).runs[0].items.filter(item => item.event).map(item => item.event);
  const wrong = events.filter(event => event.before_cause_ns);
  await shot(page, 'contradicted');
  assert.ok(wrong.length >= 3, `${wrong.length} contradictions`);
  assert.match((await texts(page, '#contradictions')).join(), new RegExp(`^By the clocks, ${wrong.length} events came before what led to them: a clock was set, or goes wrong`));
  assert.equal((await texts(page, '.event title')).filter(title => title.endsWith('by the clocks 3.20 ms before its cause')).length, wrong.length);
  // Whoever could have been first is marked, and nobody who was caused by the line above.
  const times = await texts(page, '.rungs .time');
  assert.ok(times.some(time => time.startsWith('≈ ')), `${times}`);
  assert.equal(times.filter(time => time.startsWith('! ')).length, wrong.length);
  const chosen = wrong.at(-1);
  await page.$eval(`.event[data-key="${chosen.host} ${chosen.event_seq}"]`, node => node.dispatchEvent(new MouseEvent('click', { bubbles: true })));
  const rows = await page.$$eval('.detail-pane tr', rows => rows.map(row => [row.cells[0].textContent, row.cells[1].textContent]));
  assert.match(Object.fromEntries(rows).contradiction, /by the clocks 3\.20 ms before its cause/);
  assert.deepEqual(complaints, []);
  await page.close();
}

// === A large one, on a small screen ===
{
  const { page, complaints } = await open(large);
  const missing = (await data(page)).runs[0].items.reduce((sum, item) => sum + (item.omitted ?? 0), 0);
  assert.ok(missing > 0);
  assert.ok((await page.$eval('#not-drawn', node => node.textContent)).startsWith(missing.toLocaleString('en')));
  assert.ok(await number(page, '.event') > 1000);
  await page.setViewport({ width: 420, height: 900 });
  await page.waitForFunction(() => document.documentElement.scrollWidth <= innerWidth);
  assert.deepEqual(complaints, []);
  if (shots) await page.screenshot({ path: `${shots}/large-narrow.png` });
  await page.close();
}
await browser.close();
console.log('the pages open, and show what they should');
