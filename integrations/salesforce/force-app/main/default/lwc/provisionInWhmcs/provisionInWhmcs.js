/**
 * The quick action "Provision in WHMCS" on an order's record page. It has no screen: invoke() asks, a toast answers.
 */
import { LightningElement, api } from 'lwc';
import { ShowToastEvent } from 'lightning/platformShowToastEvent';
import { notifyRecordUpdateAvailable } from 'lightning/uiRecordApi';
import provision from '@salesforce/apex/OrderProvisioningController.provision';

/**
 * Orders that are being asked for. The platform neither waits for invoke()'s promise nor disables the button meanwhile, and
 * another click may make another instance: so the guard is the module's, not the instance's.
 */
const running = new Set();

export default class ProvisionInWhmcs extends LightningElement {
    @api recordId;

    @api
    async invoke() {
        const orderId = this.recordId;
        if (running.has(orderId)) {
            return;
        }
        running.add(orderId);
        try {
            const result = await provision({ orderId });
            this.tell(
                result.accepted ? 'success' : 'warning',
                result.accepted ? 'Provisioning requested' : 'Not requested',
                result.message
            );
            await notifyRecordUpdateAvailable([{ recordId: orderId }]);
        } catch (error) {
            this.tell('error', 'Provisioning could not be requested', error?.body?.message ?? String(error?.message));
        } finally {
            running.delete(orderId);
        }
    }

    tell(variant, title, message) {
        const mode = variant === 'success' ? 'dismissible' : 'sticky';
        this.dispatchEvent(new ShowToastEvent({ variant, title, message, mode }));
    }
}
