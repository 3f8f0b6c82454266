/**
 * The status component: what it says in each status, and how long it has the page read the order again.
 */
import { createElement } from 'lwc';
import ProvisioningStatus from 'c/provisioningStatus';
import { getRecord, notifyRecordUpdateAvailable } from 'lightning/uiRecordApi';

const ORDER = '801000000000001AAA';

function record(fields) {
    const values = {
        Provisioning_Status__c: null,
        WHMCS_Order_ID__c: null,
        Provisioning_Error_Code__c: null,
        Provisioning_Error_Message__c: null,
        Last_Provisioning_At__c: null,
        ...fields
    };
    return {
        apiName: 'Order',
        id: ORDER,
        fields: Object.fromEntries(Object.entries(values).map(([name, value]) => [name, { value, displayValue: null }]))
    };
}

async function settle() {
    for (let i = 0; i < 5; i++) {
        // eslint-disable-next-line no-await-in-loop
        await Promise.resolve();
    }
}

async function shown(fields) {
    const element = createElement('c-provisioning-status', { is: ProvisioningStatus });
    element.recordId = ORDER;
    document.body.appendChild(element);
    getRecord.emit(record(fields));
    await settle();
    return element;
}

const part = (element, id) => element.shadowRoot.querySelector(`[data-id="${id}"]`)?.textContent;
const badge = (element) => element.shadowRoot.querySelector('lightning-badge').label;
const progress = (element) => element.shadowRoot.querySelector('lightning-progress-indicator');

describe('c-provisioning-status', () => {
    beforeEach(() => jest.useFakeTimers());

    afterEach(() => {
        document.body.replaceChildren();
        jest.clearAllMocks();
        jest.useRealTimers();
    });

    it('takes an empty status for Pending Review', async () => {
        const element = await shown({});
        expect(badge(element)).toBe('Pending Review');
        expect(part(element, 'hint')).toContain('Provision in WHMCS');
    });

    it('names the WHMCS order of a provisioned one, and no error', async () => {
        const element = await shown({
            Provisioning_Status__c: 'Provisioned',
            WHMCS_Order_ID__c: '12',
            Last_Provisioning_At__c: '2026-01-31T09:30:00.000Z'
        });
        expect(part(element, 'whmcs')).toBe('12');
        expect(part(element, 'error')).toBeUndefined();
        expect(progress(element).currentStep).toBe('Provisioned');
        expect(element.shadowRoot.querySelector('lightning-formatted-date-time').value).toBe(
            '2026-01-31T09:30:00.000Z'
        );
    });

    it('gives the error in words with its code, and a hint what to do', async () => {
        const element = await shown({
            Provisioning_Status__c: 'Failed',
            Provisioning_Error_Code__c: 'PAYMENT_METHOD_MISSING',
            Provisioning_Error_Message__c: 'The client has no payment method'
        });
        expect(part(element, 'error')).toContain('The client has no payment method');
        expect(part(element, 'error')).toContain('PAYMENT_METHOD_MISSING');
        expect(part(element, 'hint')).toContain('Ask the customer');
        expect(progress(element).hasError).toBe(true);
    });

    it('has a hint for a code it does not know', async () => {
        const element = await shown({ Provisioning_Status__c: 'Failed', Provisioning_Error_Code__c: 'HTTP_418' });
        expect(part(element, 'hint')).toContain('click "Provision in WHMCS" again');
    });

    it('shows no steps for a cancelled order', async () => {
        expect(progress(await shown({ Provisioning_Status__c: 'Cancelled' }))).toBeNull();
    });

    it('reads an order on its way again, ever more seldom, and not for ever', async () => {
        await shown({ Provisioning_Status__c: 'Requested' });
        await jest.advanceTimersByTimeAsync(3000);
        expect(notifyRecordUpdateAvailable).toHaveBeenCalledWith([{ recordId: ORDER }]);
        await jest.advanceTimersByTimeAsync(60 * 60 * 1000);
        const calls = notifyRecordUpdateAvailable.mock.calls.length;
        expect(calls).toBeGreaterThan(10);
        expect(calls).toBeLessThan(40);
        await jest.advanceTimersByTimeAsync(60 * 60 * 1000);
        expect(notifyRecordUpdateAvailable).toHaveBeenCalledTimes(calls);
    });

    it('stops reading when the order is done', async () => {
        await shown({ Provisioning_Status__c: 'Activating' });
        getRecord.emit(record({ Provisioning_Status__c: 'Provisioned' }));
        await jest.advanceTimersByTimeAsync(60 * 1000);
        expect(notifyRecordUpdateAvailable).not.toHaveBeenCalled();
    });

    it('stops reading when the page is left', async () => {
        const element = await shown({ Provisioning_Status__c: 'Requested' });
        element.remove();
        await jest.advanceTimersByTimeAsync(60 * 1000);
        expect(notifyRecordUpdateAvailable).not.toHaveBeenCalled();
    });

    it('reads again on the button', async () => {
        const element = await shown({ Provisioning_Status__c: 'Failed' });
        element.shadowRoot.querySelector('lightning-button-icon').click();
        await settle();
        expect(notifyRecordUpdateAvailable).toHaveBeenCalledTimes(1);
    });

    it('says that an order cannot be read', async () => {
        const element = createElement('c-provisioning-status', { is: ProvisioningStatus });
        element.recordId = ORDER;
        document.body.appendChild(element);
        getRecord.error({ message: 'You do not have access' }, 403, 'Forbidden');
        await settle();
        expect(element.shadowRoot.querySelector('[role="alert"]').textContent).toContain('You do not have access');
    });
});
