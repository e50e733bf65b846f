// What mqtt.js does and sees, for each QoS: two clients, one of which goes and comes back, once by DISCONNECT and once by a broken
// connection. Its one argument is JSON; what came of it is printed as JSON for test_mqttjs.py to judge.

import { readFileSync } from "node:fs";
import mqtt from "mqtt";

const COUNT = 5;
const GONE_MS = 300;
const asked = JSON.parse(process.argv[2]);

function options(clientId, isKept) {
  const found = {
    clientId,
    clean: !isKept,
    protocolId: asked.version === 3 ? "MQIsdp" : "MQTT",
    protocolVersion: asked.version,
    reconnectPeriod: GONE_MS,
  };
  if (asked.ca) found.ca = readFileSync(asked.ca);
  if (asked.version === 5 && isKept) found.properties = { sessionExpiryInterval: 60 };
  return found;
}

class Subscriber {
  constructor(clientId) {
    this.messages = [];
    this.present = [];
    this.waiting = [];
    this.client = mqtt.connect(asked.url, options(clientId, true));
    this.client.on("connect", (connack) => {
      this.present.push(connack.sessionPresent);
      this.look();
    });
    this.client.on("message", (topic, payload, packet) => {
      this.messages.push([payload.toString(), packet.qos]);
      this.look();
    });
  }

  look() {
    this.waiting = this.waiting.filter(([isSo, resolve]) => !isSo() || resolve());
  }

  when(isSo) {
    return new Promise((resolve) => {
      this.waiting.push([isSo, resolve]);
      this.look();
    });
  }

  taken() {
    return this.messages.splice(0);
  }
}

async function publish(client, topic, qos, name) {
  for (let i = 0; i < COUNT; i++) await client.publishAsync(topic, `${name} ${i}`, { qos });
}

async function exchange(publisher, qos) {
  const topic = `${asked.topic}/${qos}`;
  const id = `${asked.id}${qos}`;
  const seen = {};
  let subscriber = new Subscriber(id);
  await subscriber.when(() => subscriber.present.length === 1);
  seen.granted = (await subscriber.client.subscribeAsync(topic, { qos })).map((each) => each.qos);
  await publish(publisher, topic, qos, "live");
  await subscriber.when(() => subscriber.messages.length === COUNT);
  seen.live = subscriber.taken();

  // Behind the acknowledgement of the last message, which would else be sent again.
  await subscriber.client.subscribeAsync(`${topic}/aside`, { qos });
  const gone = new Promise((resolve) => subscriber.client.once("close", resolve));
  subscriber.client.stream.destroy();
  await gone;
  await publish(publisher, topic, qos, "broken");
  await subscriber.when(() => subscriber.present.length === 2);
  await publish(publisher, topic, qos, "mended");
  await subscriber.when(() => subscriber.messages.some(([text]) => text === `mended ${COUNT - 1}`));
  seen.broken = subscriber.taken();
  seen.present = subscriber.present;

  await subscriber.client.endAsync();
  await publish(publisher, topic, qos, "away");
  subscriber = new Subscriber(id);
  await subscriber.when(() => subscriber.present.length === 1);
  await publish(publisher, topic, qos, "back");
  await subscriber.when(() => subscriber.messages.some(([text]) => text === `back ${COUNT - 1}`));
  seen.away = subscriber.taken();
  seen.present = [...seen.present, ...subscriber.present];
  await subscriber.client.unsubscribeAsync(topic);
  await subscriber.client.endAsync();
  return seen;
}

// 3.1 knows no empty client id; with the others the broker makes one up.
const publisher = await mqtt.connectAsync(asked.url, options(asked.version === 3 ? `${asked.id}p` : "", false));
const seen = [];
for (const qos of [0, 1, 2]) seen.push(await exchange(publisher, qos));
await publisher.endAsync();
console.log(JSON.stringify(seen));
