// Drives the pretend org with jsforce; tests/clients/test_jsforce.py starts it and judges what it tells.
"use strict";

const { createRequire } = require("node:module");
const { step, tell } = require("./steps.cjs");

const jsforce = createRequire(`${process.env.CLIENTS}/`)("jsforce");
const { url, assertion, account, pricebook, entry } = JSON.parse(process.env.TOLD);

async function main() {
  const conn = new jsforce.Connection({ oauth2: { loginUrl: url }, instanceUrl: url, version: "67.0" });
  await step("authorize", () =>
    conn.authorize({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion }),
  );
  await step("identity", () => conn.identity());
  await step("describeGlobal", async () => (await conn.describeGlobal()).sobjects.map((each) => each.name));
  await step("describe", async () => (await conn.describe("Order")).fields.map((each) => each.name));
  await step("limits", () => conn.limits());

  const created = await step("create", () => conn.sobject("Account").create({ Name: "From jsforce" }));
  await step("retrieve", () => conn.sobject("Account").retrieve(created.id));
  await step("update", () => conn.sobject("Account").update({ Id: created.id, Phone: "1" }));
  const many = await step("createMany", () => conn.sobject("Account").create([{ Name: "One" }, { Phone: "no name" }]));
  await step("retrieveMany", () => conn.sobject("Account").retrieve([created.id, account]));
  await step("updateMany", () =>
    conn.sobject("Account").update([
      { Id: created.id, Phone: "2" },
      { Id: many[0].id, Phone: "2" },
    ]),
  );
  await step("query", () => conn.query("SELECT Id, Name FROM Account WHERE Phone = '2' ORDER BY Name"));
  await step("find", () =>
    conn.sobject("Account").find({ Name: { $like: "From js%" } }, "Id, Name").sort({ Name: -1 }).limit(5),
  );
  await step("findOne", () => conn.sobject("Account").findOne({ Phone: "2", Name: "One" }, "Id"));
  await step("count", () => conn.sobject("Account").count({ Phone: "2" }));
  await step("include", () =>
    conn
      .sobject("Account")
      .select("Id, Name")
      .include("Contacts")
      .select("Id, Email")
      .end()
      .where({ Id: account })
      .execute(),
  );
  await step("autoFetch", async () => {
    const rows = [];
    await new Promise((resolve, reject) => {
      conn
        .query("SELECT Id FROM Account")
        .on("record", (row) => rows.push(row.Id))
        .on("end", resolve)
        .on("error", reject)
        .run({ autoFetch: true, maxFetch: 1000 });
    });
    return rows;
  });

  const order = { AccountId: account, EffectiveDate: "2026-11-21", Status: "Pending Review", Pricebook2Id: pricebook };
  const reference = { Portal_Reference__c: "jsforce-1" };
  await step("upsertNew", () => conn.sobject("Order").upsert({ ...reference, ...order }, "Portal_Reference__c"));
  const upserted = await step("upsertOld", () =>
    conn.sobject("Order").upsert({ ...reference, Description: "again" }, "Portal_Reference__c"),
  );
  await step("upsertMany", () => conn.sobject("Order").upsert([{ ...reference, Description: "more" }], "Portal_Reference__c"));
  await step("createChild", () =>
    conn.sobject("OrderItem").create({ OrderId: upserted.id, PricebookEntryId: entry, Quantity: 1, UnitPrice: 5 }),
  );
  await step("composite", () =>
    conn.requestPost("/composite", {
      allOrNone: true,
      compositeRequest: [
        {
          method: "PATCH",
          url: `/services/data/v67.0/sobjects/Order/${upserted.id}`,
          referenceId: "change",
          body: { Provisioning_Status__c: "Activating" },
        },
        {
          method: "GET",
          url: `/services/data/v67.0/sobjects/Order/${upserted.id}?fields=Provisioning_Status__c`,
          referenceId: "read",
        },
      ],
    }),
  );

  const [since, until] = [new Date(Date.now() - 3_600_000), new Date(Date.now() + 60_000)];
  await step("updated", () => conn.sobject("Account").updated(since, until));
  await step("recent", () => conn.recent("Account", 2));
  await step("recentOfAll", () => conn.recent(3));
  await step("destroy", () => conn.sobject("Account").destroy(created.id));
  await step("destroyMany", () => conn.sobject("Account").destroy([many[0].id, created.id]));
  await step("deleted", () => conn.sobject("Account").deleted(since, until));
  await step("queryAll", () => conn.query("SELECT Id FROM Account WHERE IsDeleted = true", { scanAll: true }));

  // What the API's root lists is served; what it doesn't list isn't there.
  const root = await step("root", () => conn.request("/services/data/v67.0"));
  for (const name of Object.keys(root)) {
    const needs = { composite: null, query: "?q=SELECT+Id+FROM+Account", queryAll: "?q=SELECT+Id+FROM+Account" };
    if (needs[name] !== null) {
      await step(`root:${name}`, async () => Boolean(await conn.request(root[name] + (needs[name] || ""))));
    }
  }
  await step("search", () => conn.search("FIND {jsforce}"));
  await step("wrongField", () => conn.query("SELECT Nothing__c FROM Order"));
  await step("wrongValue", () => conn.sobject("Order").update({ Id: upserted.id, Provisioning_Status__c: "Done" }));
  await step("logout", () => conn.logout());
  tell();
}

main();
