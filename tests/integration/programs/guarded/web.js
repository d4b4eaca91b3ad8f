// Fetch over TLS, exchange datagrams, ask name servers by c-ares, and print what came of it as JSON:
// node web.js NAME UDP-HOST UDP-PORT DENIED-HOST
const dgram = require('dgram');
const dns = require('dns');
const net = require('net');

const [name, host, port, denied] = process.argv.slice(2);

function exchange(connects) {
  return new Promise((done) => {
    const sock = dgram.createSocket('udp4');
    sock.on('message', (text) => { sock.close(); done(text.toString()); });
    sock.on('error', (e) => { sock.close(); done(e.code); });
    if (connects) sock.connect(Number(port), host, () => sock.send('connected'));
    else sock.send('by its name', Number(port), host);
  });
}

function dial(options) {
  return new Promise((done) => {
    const sock = net.connect(options, () => { sock.destroy(); done('connected'); });
    sock.on('error', (e) => done(e.code));
  });
}

(async () => {
  const answers = await Promise.all([...Array(50)].map(() => fetch(`https://${name}/hello`)));
  const texts = await Promise.all(answers.map((each) => each.text()));
  console.log(JSON.stringify({
    fetch: [...new Set(texts)].map((text) => text.trim()),
    datagrams: [await exchange(false), await exchange(true)],
    resolve: await dns.promises.resolve4(name),
    lookup: (await dns.promises.lookup(name, { family: 4 })).address,
    absent: await dns.promises.resolve4('absent.' + name).catch((e) => e.code),
    denied: await dial({ host: denied, port: 80 }),
  }));
})();
