/**
 * What an operator can do about each Provisioning_Error_Code__c; the codes are those of the portal's runbook and of this
 * package's Apex. A test of the portal holds the two lists against each other.
 */
const ASK_ADMIN = 'Ask an administrator';

export const HINTS = {
    PAYMENT_METHOD_MISSING:
        'Ask the customer to add a payment method (their order page has a button), then click again.',
    ORDER_NOT_FOUND: `${ASK_ADMIN}: the portal's API user can't see this order.`,
    ORDER_NOT_FULFILLABLE: "Review the order first: its status doesn't allow provisioning.",
    ORDER_HAS_NO_ITEMS: 'Add order products, then click again.',
    CLIENT_NOT_MAPPED: "Fill in the account's WHMCS Client ID, then click again.",
    PRODUCT_MAPPING_MISSING: "Fill in the products' WHMCS Product ID and Billing Cycle, then click again.",
    WHMCS_ADD_ORDER_FAILED: 'WHMCS refused the order; its words are above. Fix that, then click again.',
    WHMCS_ACCEPT_ORDER_FAILED: 'WHMCS could not set the order up; fix that in WHMCS, then click again.',
    WHMCS_SERVICE_NOT_ACTIVE: 'The order is accepted, but one of its services is not active: see WHMCS.',
    WHMCS_UNAVAILABLE: 'WHMCS could not be reached. Click again once it is back.',
    SALESFORCE_UNAVAILABLE: 'The portal could not reach Salesforce. Click again later.',
    OUTCOME_UNCERTAIN: "Only a person can know what happened in WHMCS. Decide on the portal's operator pages.",
    PROVISIONING_ERROR: "A mistake of the portal's; its log says more. Please report it.",
    INVALID_SIGNATURE: `${ASK_ADMIN}: the secret here and the portal's SF_WEBHOOK_SECRET differ.`,
    STALE_TIMESTAMP: `${ASK_ADMIN}: the portal's clock is off.`,
    ADDRESS_NOT_ALLOWED: `${ASK_ADMIN}: Salesforce's address is not on the portal's allowlist.`,
    CALLOUT_NOT_ALLOWED: `${ASK_ADMIN}: permission set Portal Callout, or the external credential's secret.`,
    NOT_SET_UP: `${ASK_ADMIN}: the package isn't set up completely.`,
    UNEXPECTED_ANSWER: `${ASK_ADMIN}: the named credential Portal_BFF has the wrong address.`,
    PORTAL_UNREACHABLE: 'Nothing to do: the portal finds this order once it is back. Clicking again does no harm.',
    REQUEST_INTERRUPTED: 'Nothing to do: the portal finds this order by itself. Clicking again does no harm.'
};

const BY_STATUS = {
    Requested: 'The portal has been asked. This usually takes seconds.',
    Activating: 'WHMCS is setting the products up.',
    Provisioned: 'Done.',
    Failed: 'See the message; then click "Provision in WHMCS" again.',
    Cancelled: 'This order was withdrawn or cancelled.'
};

/** What to do about an order in this status with this error code; text for both missing, too. */
export function hintFor(status, code) {
    return HINTS[code] ?? BY_STATUS[status] ?? 'Review the order, then click "Provision in WHMCS".';
}
