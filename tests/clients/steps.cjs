// What the drivers share: named steps one after the other, each one's result (or refusal) told as one JSON object.
"use strict";

const told = {};

async function step(name, act) {
  try {
    const result = await act();
    told[name] = result === undefined ? null : result;
    return result;
  } catch (error) {
    told[name] = { refused: error.errorCode || error.name, message: String(error.message) };
    return undefined;
  }
}

function tell() {
  process.stdout.write(JSON.stringify(told) + "\n");
}

module.exports = { step, tell };
