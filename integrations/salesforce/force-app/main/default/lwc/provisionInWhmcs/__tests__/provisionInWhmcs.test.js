/**
 * The quick action: one request per click, words for every outcome, and no second request while one is under way.
 */
import { createElement } from 'lwc';
import ProvisionInWhmcs from 'c/provisionInWhmcs';
import { notifyRecordUpdateAvailable } from 'lightning/uiRecordApi';
import provision from '@salesforce/apex/OrderProvisioningController.provision';

jest.mock('@salesforce/apex/OrderProvisioningController.provision', () => ({ default: jest.fn() }), { virtual: true });

const ORDER = '801000000000001AAA';

function make() {
    const element = createElement('c-provision-in-whmcs', { is: ProvisionInWhmcs });
    element.recordId = ORDER;
    element.toasts = [];
    element.addEventListener('lightning__showtoast', (event) => element.toasts.push(event.detail));
    document.body.appendChild(element);
    return element;
}

describe('c-provision-in-whmcs', () => {
    afterEach(() => {
        document.body.replaceChildren();
        jest.clearAllMocks();
    });

    it('asks for the order of the page and says that it is requested', async () => {
        provision.mockResolvedValue({ orderId: ORDER, accepted: true, message: 'Requested.' });
        const element = make();
        await element.invoke();
        expect(provision).toHaveBeenCalledWith({ orderId: ORDER });
        expect(element.toasts).toEqual([
            expect.objectContaining({ variant: 'success', message: 'Requested.', mode: 'dismissible' })
        ]);
    });

    it('has the page read the record again', async () => {
        provision.mockResolvedValue({ orderId: ORDER, accepted: true, message: 'Requested.' });
        await make().invoke();
        expect(notifyRecordUpdateAvailable).toHaveBeenCalledWith([{ recordId: ORDER }]);
    });

    it('says why an order is not asked for, and leaves it standing', async () => {
        provision.mockResolvedValue({ orderId: ORDER, accepted: false, message: 'This order was cancelled.' });
        const element = make();
        await element.invoke();
        expect(element.toasts).toEqual([
            expect.objectContaining({ variant: 'warning', message: 'This order was cancelled.', mode: 'sticky' })
        ]);
    });

    it("shows Apex's own words when it refuses", async () => {
        provision.mockRejectedValue({ body: { message: 'You may not provision orders.' } });
        const element = make();
        await element.invoke();
        expect(element.toasts).toEqual([
            expect.objectContaining({ variant: 'error', message: 'You may not provision orders.' })
        ]);
    });

    it('sends one request for a double click, even one that made two instances', async () => {
        let answer;
        provision.mockReturnValue(
            new Promise((resolve) => {
                answer = resolve;
            })
        );
        const first = make();
        const second = make();
        const clicks = [first.invoke(), first.invoke(), second.invoke()];
        answer({ orderId: ORDER, accepted: true, message: 'Requested.' });
        await Promise.all(clicks);
        expect(provision).toHaveBeenCalledTimes(1);
        expect([...first.toasts, ...second.toasts]).toHaveLength(1);
    });

    it('can be clicked again after a failure', async () => {
        provision.mockRejectedValueOnce(new Error('Network')).mockResolvedValueOnce({ accepted: true, message: 'Ok' });
        const element = make();
        await element.invoke();
        await element.invoke();
        expect(element.toasts.map((toast) => toast.variant)).toEqual(['error', 'success']);
    });
});
