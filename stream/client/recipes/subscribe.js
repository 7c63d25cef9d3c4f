const { Kafka, logLevel } = require("kafkajs");

const kafka = new Kafka({ clientId: "my-program", brokers: ["localhost:9092"], logLevel: logLevel.WARN });
const consumer = kafka.consumer({ groupId: "my-program-in-node", readUncommitted: false });

async function main() {
  await consumer.connect();
  await consumer.subscribe({ topics: ["pathcast.forecasts.v1"], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => {
      const forecast = JSON.parse(message.value.toString());
      const ahead = forecast.horizons[0];
      console.log(forecast.entity_id, ahead.h_s, ahead.lat, ahead.lon);
    },
  });
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, () => consumer.disconnect().then(() => process.exit(0)));
}
main();
