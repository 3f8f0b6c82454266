// Drives the pretend WHMCS with whmcs-js; tests/clients/test_npm_whmcs.py starts it and judges what it tells.
"use strict";

const { createRequire } = require("node:module");
const { step, tell } = require("./steps.cjs");

const whmcs = createRequire(`${process.env.CLIENTS}/`)("whmcs-js");
const { url, credentials, wrong } = JSON.parse(process.env.TOLD);
const person = {
  firstname: "Node",
  lastname: "Client",
  email: `whmcs-js-${Object.keys(credentials)[0]}@example.com`,
  address1: "1 Road",
  city: "Town",
  state: "TX",
  postcode: "12345",
  country: "US",
  phonenumber: "1",
  password2: "pw",
};

async function main() {
  const config = { serverUrl: url, ...credentials };
  const [orders, clients, billing, products] = [whmcs.Orders, whmcs.Clients, whmcs.Billing, whmcs.Products].map(
    (Module) => new Module(config),
  );
  const [system, tickets, servers, domains] = [whmcs.System, whmcs.Tickets, whmcs.Servers, whmcs.Domains].map(
    (Module) => new Module(config),
  );
  const modules = new whmcs.Services(config);

  const { clientid } = await step("addClient", () => clients.addClient(person));
  await step("getClientsDetails", () => clients.getClientsDetails({ clientid }));
  await step("updateClient", () => clients.updateClient({ clientid, companyname: "Nodes" }));
  await step("getClients", () => clients.getClients({ search: person.email }));
  await step("getProducts", () => orders.getProducts({ pid: 1 }));
  await step("getPaymentMethods", () => system.getPaymentMethods());
  await step("getCurrencies", () => system.getCurrencies());

  const ask = { clientid, paymentmethod: "stripe", "pid[0]": 1, "billingcycle[0]": "monthly", "domain[0]": "a.example" };
  const made = await step("addOrder", () => orders.addOrder(ask));
  await step("getOrders", () => orders.getOrders({ id: made.orderid }));
  await step("acceptOrder", () => orders.acceptOrder({ orderid: made.orderid }));
  await step("acceptTwice", () => orders.acceptOrder({ orderid: made.orderid }));
  await step("getClientsProducts", () => clients.getClientsProducts({ clientid }));
  await step("moduleSuspend", () => modules.moduleSuspend({ serviceid: made.serviceids }));
  await step("moduleUnsuspend", () => modules.moduleUnsuspend({ serviceid: made.serviceids }));
  await step("updateClientProduct", () => modules.updateClientProduct({ serviceid: made.serviceids, notes: "seen" }));
  await step("getInvoice", () => billing.getInvoice({ invoiceid: made.invoiceid }));
  await step("addInvoicePayment", () => billing.addInvoicePayment({ invoiceid: made.invoiceid, transid: "t", gateway: "stripe" }));
  await step("getInvoices", () => billing.getInvoices({ userid: clientid }));
  await step("getTransactions", () => billing.getTransactions({ clientid }));

  const second = await step("addOrderAgain", () => orders.addOrder({ ...ask, noinvoice: 1 }));
  await step("cancelOrder", () => orders.cancelOrder({ orderid: second.orderid }));
  await step("pendingOrder", () => orders.pendingOrder({ orderid: second.orderid }));
  await step("fraudOrder", () => orders.fraudOrder({ orderid: second.orderid }));
  await step("deleteOrder", () => orders.deleteOrder({ orderid: second.orderid }));
  await step("getOrderStatuses", () => orders.getOrderStatuses());

  await step("logActivity", () => system.logActivity({ description: "seen by whmcs-js", clientid }));
  await step("getActivityLog", () => system.getActivityLog({ limitnum: 1 }));
  await step("openTicket", () => new whmcs.Support(config).openTicket({ deptid: 1, subject: "Help", message: "Please", clientid }));
  await step("getTickets", () => tickets.getTickets({ clientid }));
  await step("getServers", () => servers.getServers());
  await step("getTLDPricing", () => domains.getTLDPricing());
  await step("addProduct", () => products.addProduct({ name: "Node", gid: 1 }));
  await step("wrongCredentials", () => new whmcs.System({ serverUrl: url, ...wrong }).getStats());
  tell();
}

main();
