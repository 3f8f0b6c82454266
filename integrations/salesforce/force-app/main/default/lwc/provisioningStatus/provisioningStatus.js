/**
 * How an order stands between review and WHMCS: status, step, WHMCS number, the error in words, when, and what to do.
 *
 * The portal writes the order through the API, which an open page isn't told of. While an order is on its way, the
 * component has the page read it again: soon at first, more and more seldom, and not for ever.
 */
import { LightningElement, api, wire } from 'lwc';
import { getFieldValue, getRecord, notifyRecordUpdateAvailable } from 'lightning/uiRecordApi';
import STATUS from '@salesforce/schema/Order.Provisioning_Status__c';
import WHMCS_ORDER_ID from '@salesforce/schema/Order.WHMCS_Order_ID__c';
import ERROR_CODE from '@salesforce/schema/Order.Provisioning_Error_Code__c';
import ERROR_MESSAGE from '@salesforce/schema/Order.Provisioning_Error_Message__c';
import LAST_AT from '@salesforce/schema/Order.Last_Provisioning_At__c';
import { hintFor } from './hints';

const FIELDS = [STATUS, WHMCS_ORDER_ID, ERROR_CODE, ERROR_MESSAGE, LAST_AT];
const STEPS = ['Pending Review', 'Requested', 'Activating', 'Provisioned'];
const ON_ITS_WAY = new Set(['Requested', 'Activating']);
const BADGES = { Provisioned: 'slds-theme_success', Failed: 'slds-theme_error' };
const FIRST_WAIT = 3000;
const LONGEST_WAIT = 30000;
const LONGEST_WATCH = 15 * 60 * 1000;

export default class ProvisioningStatus extends LightningElement {
    @api recordId;
    record;
    error;
    timer;
    wait = FIRST_WAIT;
    watched = 0;

    @wire(getRecord, { recordId: '$recordId', fields: FIELDS })
    receive({ data, error }) {
        if (data) {
            const before = this.status;
            this.record = data;
            this.error = undefined;
            if (this.status !== before) {
                this.wait = FIRST_WAIT;
                this.watched = 0;
            }
            this.watch();
        } else if (error) {
            this.error = error?.body?.message ?? 'The order could not be read.';
        }
    }

    disconnectedCallback() {
        clearTimeout(this.timer);
    }

    watch() {
        clearTimeout(this.timer);
        if (!this.isConnected || !ON_ITS_WAY.has(this.status) || this.watched >= LONGEST_WATCH) {
            return;
        }
        // eslint-disable-next-line @lwc/lwc/no-async-operation -- the platform has no other way to learn of the change
        this.timer = setTimeout(() => this.refresh(), this.wait);
        this.watched += this.wait;
        this.wait = Math.min(this.wait * 1.5, LONGEST_WAIT);
    }

    async refresh() {
        try {
            await notifyRecordUpdateAvailable([{ recordId: this.recordId }]);
        } finally {
            this.watch(); // a record that hasn't changed isn't delivered again
        }
    }

    get status() {
        return this.record ? (getFieldValue(this.record, STATUS) ?? 'Pending Review') : undefined;
    }

    get steps() {
        return STEPS.map((name) => ({ name, label: name }));
    }

    get step() {
        // A failed order failed on its way to WHMCS.
        return STEPS.includes(this.status) ? this.status : 'Activating';
    }

    get showsSteps() {
        return this.status !== 'Cancelled';
    }

    get hasFailed() {
        return this.status === 'Failed';
    }

    get badge() {
        return BADGES[this.status] ?? '';
    }

    get whmcsOrderId() {
        return getFieldValue(this.record, WHMCS_ORDER_ID);
    }

    get errorMessage() {
        return getFieldValue(this.record, ERROR_MESSAGE);
    }

    get errorCode() {
        return getFieldValue(this.record, ERROR_CODE);
    }

    get lastAt() {
        return getFieldValue(this.record, LAST_AT);
    }

    get hint() {
        return hintFor(this.status, this.errorCode);
    }
}
