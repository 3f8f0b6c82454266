// Drives the pretend WHMCS with the npm package "whmcs", which signs in with username and password only.
"use strict";

const { createRequire } = require("node:module");
const { promisify } = require("node:util");
const { step, tell } = require("./steps.cjs");

// Its HTTP library is old and says so; what matters here is what it sends and how it reads the answers.
process.removeAllListeners("warning");
const Whmcs = createRequire(`${process.env.CLIENTS}/`)("whmcs");
const { url, username, password, email } = JSON.parse(process.env.TOLD);

function promised(module) {
  return new Proxy(module, { get: (target, name) => promisify(target[name].bind(target)) });
}

async function main() {
  const client = new Whmcs({ serverUrl: url, username, password, userAgent: "order-portal-tests" });
  const [billing, customers, products, support] = ["billing", "customers", "products", "support"].map((name) =>
    promised(client[name]),
  );
  const person = { firstname: "Old", lastname: "Client", email, address1: "1 Road", city: "Town", state: "TX" };
  const rest = { postcode: "12345", country: "US", phonenumber: "1", password2: "pw" };
  const { clientid } = await step("createCustomer", () => customers.createCustomer({ ...person, ...rest }));
  await step("getCustomer", () => customers.getCustomer(clientid, {}));
  await step("getCustomerByEmail", () => customers.getCustomerByEmail(email, {}));
  await step("updateCustomer", () => customers.updateCustomer(clientid, { companyname: "Olds" }));
  await step("getProduct", () => products.getProduct(1));
  await step("getProducts", () => products.getProducts(1));

  const ask = { paymentmethod: "stripe", "pid[0]": 1, "billingcycle[0]": "monthly", "domain[0]": "old.example" };
  const made = await step("addOrder", () => billing.addOrder(clientid, ask));
  await step("acceptOrder", () => billing.acceptOrder(made.orderid, {}));
  await step("acceptTwice", () => billing.acceptOrder(made.orderid, {}));
  await step("getCustomerOrders", () => customers.getCustomerOrders({ userid: clientid }));
  await step("getCustomerProducts", () => customers.getCustomerProducts(clientid, {}));
  await step("updateCustomerProduct", () => customers.updateCustomerProduct(made.serviceids, { notes: "seen" }));
  await step("getInvoice", () => billing.getInvoice(made.invoiceid));
  await step("updateInvoice", () => billing.updateInvoice(made.invoiceid, { status: "Paid" }));
  await step("getInvoices", () => billing.getInvoices({ userid: clientid }));
  await step("getTransactions", () => customers.getTransactions({ clientid }));

  const second = await step("addOrderAgain", () => billing.addOrder(clientid, ask));
  await step("cancelOrder", () => billing.cancelOrder(second.orderid));
  await step("deleteOrder", () => billing.deleteOrder(second.orderid));
  await step("openTicket", () => support.openTicket(clientid, 1, "Help", "Please", {}));
  await step("getTickets", () => support.getTickets({ clientid }));
  await step("sendEmail", () => customers.sendEmail(clientid, { messagename: "Welcome" }));
  tell();
}

main();
