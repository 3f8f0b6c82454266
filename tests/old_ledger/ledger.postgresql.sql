CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)

;
INSERT INTO "alembic_version" VALUES ('0002');
CREATE TABLE counters (
	name VARCHAR(80) NOT NULL, 
	label VARCHAR(80) NOT NULL, 
	value DOUBLE PRECISION NOT NULL, 
	CONSTRAINT pk_counters PRIMARY KEY (name, label)
)

;
INSERT INTO "counters" VALUES ('order_provisioning_attempts_total', 'true', '1');
INSERT INTO "counters" VALUES ('order_provisioning_attempts_total', 'false', '2');
INSERT INTO "counters" VALUES ('webhook_secret_matched_total', 'sf:current', '10');
INSERT INTO "counters" VALUES ('webhook_secret_matched_total', 'whmcs:current', '13');
INSERT INTO "counters" VALUES ('webhook_security_events_total', 'invalid_signature', '8');
CREATE TABLE deliveries (
	nonce VARCHAR(160) NOT NULL, 
	sf_order_id VARCHAR(18), 
	idempotency_key VARCHAR(255), 
	received_at DOUBLE PRECISION NOT NULL, 
	expires_at DOUBLE PRECISION NOT NULL, 
	CONSTRAINT pk_deliveries PRIMARY KEY (nonce)
)

;
CREATE INDEX ix_deliveries_expires_at ON deliveries (expires_at);
CREATE INDEX ix_deliveries_order ON deliveries (sf_order_id);
INSERT INTO "deliveries" VALUES ('sf:0065eec3b47a365d0cf453e5e395bce47b36f1fbaabd54b779e1ce562a75dc7b', '801Ws0000000EQ5IAM', 'click-20d981e9501593f5', '1795631657.2702034', '1795718057.2702034');
INSERT INTO "deliveries" VALUES ('sf:067e719d2c6e144a971523aae5061b15b996270c3fe8f17e360522edddc351c1', '801Ws0000000KbGIAU', 'click-ddb9c1e5faebc216', '1795631658.2023277', '1795718058.2023277');
INSERT INTO "deliveries" VALUES ('sf:1e3febb5238f053da2f812b726a1a831e0cece0ba40ba18273fd6841ff4361d2', '801Ws0000000IXXIA2', 'click-6f5b627bd882ef1f', '1795631657.9855504', '1795718057.9855504');
INSERT INTO "deliveries" VALUES ('sf:212dc2199e11419a85fbdf6f0077eb8ea6fc40cfa69ec63aa54d8da35c6304c7', '801Ws0000000OiiIAE', 'click-of-queued', '1795631658.6646082', '1795718058.6646082');
INSERT INTO "deliveries" VALUES ('sf:2f77214bb4f944b3f0e2669d28466a2ba3f0d909b67518effe4197cf14e8e9cb', '801Ws0000000GToIAM', 'click-895bc056cd1169e9', '1795631657.2893777', '1795718057.2893777');
INSERT INTO "deliveries" VALUES ('sf:47b383db509d34f05179063fc837dbaa3cd3451cf737862fff3404bf9e46fa7f', '801Ws0000000CMMIA2', 'click-590438f307ba7de3', '1795631657.2448995', '1795718057.2448995');
INSERT INTO "deliveries" VALUES ('sf:5dde1130b7098b209105a63fc6362087e90913e278cfc4524fefaa0fb40321f4', '801Ws00000006BBIAY', 'click-355f3fb2b22a2ae8', '1795631655.0809703', '1795718055.0809703');
INSERT INTO "deliveries" VALUES ('sf:a943edb679fe060cb75cebee72642b95516b1f60e72a647985f169267edd89c5', '801Ws000000023jIAA', 'click-of-provisioned', '1795631653.6598268', '1795718053.6598268');
INSERT INTO "deliveries" VALUES ('sf:e42aac52293aa3111ebb8efae5896a0f9f549e87279e2694972522757820e825', '801Ws000000047SIAQ', 'click-of-failed', '1795631654.5769167', '1795718054.5769167');
INSERT INTO "deliveries" VALUES ('sf:faf712a815fe914c75703853c83c73762f3f32fcb387a9cb9520feefa6444b91', '801Ws0000000MezIAE', 'click-079469a1301be4df', '1795631658.6181648', '1795718058.6181648');
INSERT INTO "deliveries" VALUES ('whmcs-event:00ab67179566c9dca9dd1b3e89e5025de483495beab8c23f67343d27a3c989b6', NULL, NULL, '1795631653.7538173', '1796236453.7538173');
INSERT INTO "deliveries" VALUES ('whmcs-event:3718f714d0749b83254534dbffd8ebc0978d8d3686c71f6ea234c165f82515f7', NULL, NULL, '1795631657.265895', '1796236457.265895');
INSERT INTO "deliveries" VALUES ('whmcs-event:7bcc9a9a3c12708d3769ff2e57fcdec9eb2ad17cc869daa7d170ca2db3ff76ce', NULL, NULL, '1795631655.0438588', '1796236455.0438588');
INSERT INTO "deliveries" VALUES ('whmcs-event:7ed89b04b222767f4c1910d767d927199375c607a227be698fb46ff64cd7b017', NULL, NULL, '1795631658.9469335', '1796236458.9469335');
INSERT INTO "deliveries" VALUES ('whmcs-event:8662ea712708b8d979639fa74f7088c62612c1487d17d5990395cb8488d5de0f', NULL, NULL, '1795631658.9362864', '1796236458.9362864');
INSERT INTO "deliveries" VALUES ('whmcs-event:8dc895457bb77093483fc878236341b91b7bca3b5e95c9fd8b1c944ed92547cd', NULL, NULL, '1795631657.2348068', '1796236457.2348068');
INSERT INTO "deliveries" VALUES ('whmcs-event:97832d9bc383fd981f437962445a9725b1db1349d38bd2a87cbdb631e310bb37', NULL, NULL, '1795631658.6598377', '1796236458.6598377');
INSERT INTO "deliveries" VALUES ('whmcs-event:9bda61c17cf4884bd58f1abeb1ddb479e51d7b8f21737c01450637bc169f71c7', NULL, NULL, '1795631658.615286', '1796236458.615286');
INSERT INTO "deliveries" VALUES ('whmcs-event:d0fedd6e446ab82cc7ec2dd61c940e37a76ddc540e6331aaa887df94956119ea', NULL, NULL, '1795631658.19394', '1796236458.19394');
INSERT INTO "deliveries" VALUES ('whmcs-event:e8ae557aa63360b6f9042f95017d81b8cdb13ddc401530d70f59c2902a59f562', NULL, NULL, '1795631654.3721466', '1796236454.3721466');
INSERT INTO "deliveries" VALUES ('whmcs-event:ee013301639c9f17614af96368b97ad4b4095afc27aff7d25ada0dff283d32b4', NULL, NULL, '1795631657.9798002', '1796236457.9798002');
INSERT INTO "deliveries" VALUES ('whmcs-event:f8e27e8468ad4b968246eb02a3fb9c7a19e5a780adf629c1027af0e9b243fd25', NULL, NULL, '1795631657.3298457', '1796236457.3298457');
INSERT INTO "deliveries" VALUES ('whmcs-event:ffe4c668637a333edd5c0a20df654fda6aa859775c6875f1648a88508375ec23', NULL, NULL, '1795631654.414603', '1796236454.414603');
INSERT INTO "deliveries" VALUES ('whmcs:0597fb9854f4d65b49460591fc8f1ff95aabcbd524e71dd67a7c1c0b28c9dd3c', NULL, NULL, '1795631657.3298457', '1795718057.3298457');
INSERT INTO "deliveries" VALUES ('whmcs:2948f27b5ed58b3d9fad54c6fad5d5411271ce63038f1f7714a2014580a064ad', NULL, NULL, '1795631654.3721466', '1795718054.3721466');
INSERT INTO "deliveries" VALUES ('whmcs:33298ce94ec214141e4eab1c1cd83e08dd338b5e1e67f40b28868744443d303c', NULL, NULL, '1795631658.615286', '1795718058.615286');
INSERT INTO "deliveries" VALUES ('whmcs:4db74ab164bc4a561ea1520fa5a65d51225eb05894c7a4550546c6358e01f393', NULL, NULL, '1795631655.0438588', '1795718055.0438588');
INSERT INTO "deliveries" VALUES ('whmcs:5f69d7fbcea3ce62f88caddfb34b6676a42efcd1c5c33916d247a22963feb3e5', NULL, NULL, '1795631657.2348068', '1795718057.2348068');
INSERT INTO "deliveries" VALUES ('whmcs:67ec33006174d43ae5fdecc32dbcce97ff737db2f533523d75e3325f3e8f6aeb', NULL, NULL, '1795631657.9798002', '1795718057.9798002');
INSERT INTO "deliveries" VALUES ('whmcs:801f4ec0443d78c7837ff03039b986b8fa0391a14bc4a65bd23870f51aafd20c', NULL, NULL, '1795631657.265895', '1795718057.265895');
INSERT INTO "deliveries" VALUES ('whmcs:8bc370756d48b7b61a7da7ba5d8edd593b3b4a020f80058f34ebe6c5dfd05691', NULL, NULL, '1795631654.414603', '1795718054.414603');
INSERT INTO "deliveries" VALUES ('whmcs:93eb2309f579a8234c4c117f0a91e8c1e7f4f6f1fd7077d5c09d800dd0cadd1f', NULL, NULL, '1795631658.6598377', '1795718058.6598377');
INSERT INTO "deliveries" VALUES ('whmcs:94f7d8b60a0321f3297c147ebb95a78808670d42910f809d25ff315b72584bbd', NULL, NULL, '1795631653.7538173', '1795718053.7538173');
INSERT INTO "deliveries" VALUES ('whmcs:96e6c0bdc7644cbb44d92ed3db22035011e18ea0ea509929d215208a633a0adb', NULL, NULL, '1795631658.19394', '1795718058.19394');
INSERT INTO "deliveries" VALUES ('whmcs:981f2c5f941d9e63490ed4e6c3e4ac6ccb74f274ac22791d6c9d996e5ca9303a', NULL, NULL, '1795631658.9469335', '1795718058.9469335');
INSERT INTO "deliveries" VALUES ('whmcs:fafd9eca3f549f0c082d8acb6ef64bd80fe8f2517c6eb1b1213867799a2a0821', NULL, NULL, '1795631658.9362864', '1795718058.9362864');
CREATE TABLE events (
	id SERIAL NOT NULL, 
	at DOUBLE PRECISION NOT NULL, 
	kind VARCHAR(40) NOT NULL, 
	subject VARCHAR(80), 
	actor VARCHAR(120), 
	detail JSON, 
	CONSTRAINT pk_events PRIMARY KEY (id)
)

;
CREATE INDEX ix_events_kind ON events (kind, at);
CREATE INDEX ix_events_subject ON events (subject, id);
INSERT INTO "events" VALUES ('1', '1795631653.7538173', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_4edf9ce95ed7ad33afcc3a02", "occurredAt": 1795631653.0, "clientId": "4"}');
INSERT INTO "events" VALUES ('10', '1795631658.615286', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_322190e78cdb9c954ea7a47a", "occurredAt": 1795631658.0, "clientId": "12"}');
INSERT INTO "events" VALUES ('11', '1795631658.6598377', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_5cf3df6a11b93bbabd2fc856", "occurredAt": 1795631658.0, "clientId": "13"}');
INSERT INTO "events" VALUES ('12', '1795631658.9362864', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_459ac897fb7ed3437d9aac56", "occurredAt": 1795631643.0, "clientId": "1"}');
INSERT INTO "events" VALUES ('13', '1795631658.9469335', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_f3919f8c8cfa0d0ef96d2086", "occurredAt": 1795631643.0, "clientId": "3"}');
INSERT INTO "events" VALUES ('2', '1795631654.3721466', 'whmcs:service.active', '801Ws000000023jIAA', 'whmcs', '{"eventId": "evt_4d4beea3ba3c54effbe116c2", "occurredAt": 1795631654.0, "orderId": "1", "serviceId": "1", "clientId": "4"}');
INSERT INTO "events" VALUES ('3', '1795631654.414603', 'whmcs:order.accepted', '801Ws000000023jIAA', 'whmcs', '{"eventId": "evt_3c842c883cb09d1ce9765714", "occurredAt": 1795631654.0, "orderId": "1", "clientId": "4"}');
INSERT INTO "events" VALUES ('4', '1795631655.0438588', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_672dd84381af171485dcd9b8", "occurredAt": 1795631655.0, "clientId": "6"}');
INSERT INTO "events" VALUES ('5', '1795631657.2348068', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_44abc2a20618e68a6b992e76", "occurredAt": 1795631657.0, "clientId": "7"}');
INSERT INTO "events" VALUES ('6', '1795631657.265895', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_b05c19b8250d4acc701a327b", "occurredAt": 1795631657.0, "clientId": "8"}');
INSERT INTO "events" VALUES ('7', '1795631657.3298457', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_2fe046f6323346f44a79b935", "occurredAt": 1795631657.0, "clientId": "9"}');
INSERT INTO "events" VALUES ('8', '1795631657.9798002', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_89294aa7fb125683e3a12932", "occurredAt": 1795631657.0, "clientId": "10"}');
INSERT INTO "events" VALUES ('9', '1795631658.19394', 'whmcs:paymethod.added', NULL, 'whmcs', '{"eventId": "evt_747ee8ade332ecb4aec2d066", "occurredAt": 1795631658.0, "clientId": "11"}');
CREATE TABLE fulfillments (
	sf_order_id VARCHAR(18) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	attempt INTEGER NOT NULL, 
	tries INTEGER NOT NULL, 
	first_failed_at DOUBLE PRECISION, 
	due_at DOUBLE PRECISION NOT NULL, 
	waiting_for VARCHAR(255), 
	owner VARCHAR(64), 
	fence INTEGER NOT NULL, 
	ticket VARCHAR(80), 
	ticketed_at DOUBLE PRECISION, 
	elected_whmcs_id VARCHAR(32), 
	adopt_whmcs_id VARCHAR(32), 
	answered_whmcs_id VARCHAR(32), 
	vouched BOOLEAN NOT NULL, 
	second_chance BOOLEAN NOT NULL, 
	adds INTEGER NOT NULL, 
	add_open BOOLEAN NOT NULL, 
	add_until DOUBLE PRECISION, 
	accepts INTEGER NOT NULL, 
	accept_open BOOLEAN NOT NULL, 
	accept_until DOUBLE PRECISION, 
	active BOOLEAN NOT NULL, 
	audit_due_at DOUBLE PRECISION, 
	audits INTEGER NOT NULL, 
	plan JSON, 
	client_id VARCHAR(32), 
	service_ids JSON NOT NULL, 
	error_code VARCHAR(40), 
	error_message VARCHAR(255), 
	told VARCHAR(20), 
	requested_at DOUBLE PRECISION NOT NULL, 
	requested_by VARCHAR(120), 
	created_at DOUBLE PRECISION NOT NULL, 
	updated_at DOUBLE PRECISION NOT NULL, 
	finished_at DOUBLE PRECISION, 
	CONSTRAINT pk_fulfillments PRIMARY KEY (sf_order_id)
)

;
CREATE INDEX ix_fulfillments_audit_due_at ON fulfillments (audit_due_at);
CREATE INDEX ix_fulfillments_client_state ON fulfillments (client_id, state);
CREATE INDEX ix_fulfillments_elected ON fulfillments (elected_whmcs_id);
CREATE INDEX ix_fulfillments_owner ON fulfillments (owner);
CREATE INDEX ix_fulfillments_state_due ON fulfillments (state, due_at);
CREATE INDEX ix_fulfillments_ticketed ON fulfillments (state, ticketed_at);
INSERT INTO "fulfillments" VALUES ('801Ws000000023jIAA', 'provisioned', '1', '0', NULL, '1795631653.6598268', NULL, NULL, '1', NULL, NULL, '1', NULL, NULL, 'true', 'false', '1', 'false', NULL, '1', 'false', NULL, 'true', NULL, '0', '{"order": {"id": "801Ws000000023jIAA", "order_number": "00000100", "status": "Pending Review", "account_id": "001Ws0000000AIdIAM", "account_name": "cb4e6e270", "whmcs_client_id": "4", "email": null, "provisioning_status": null, "whmcs_order_id": null, "portal_reference": null, "items": [{"id": "802Ws000000023jIAA", "product_name": "Starter Hosting", "quantity": 1, "unit_price": "5.00", "wh_product_id": "1", "billing_cycle": "Monthly", "domain": null, "hostname": null}], "currency": null, "total": "5.00", "contact": {}, "attempted_before": false}, "clientId": "4", "paymentMethod": "stripe", "lines": [{"pid": "1", "billing_cycle": "monthly", "quantity": 1, "domain": null, "hostname": null, "price_override": null}], "markedInField": false}', '4', '["1"]', NULL, NULL, 'Provisioned', '1795631653', NULL, '1795631653.6598268', '1795631654.4793525', '1795631654.4793434');
INSERT INTO "fulfillments" VALUES ('801Ws000000047SIAQ', 'failed', '1', '0', NULL, '1795631654.5769167', NULL, NULL, '1', NULL, NULL, NULL, NULL, NULL, 'true', 'false', '0', 'false', NULL, '0', 'false', NULL, 'false', NULL, '0', NULL, '5', '[]', 'PAYMENT_METHOD_MISSING', 'The customer has no payment method in WHMCS: ask them to add one, then provision again', NULL, '1795631654', NULL, '1795631654.5769167', '1795631654.8320005', '1795631654.8070161');
INSERT INTO "fulfillments" VALUES ('801Ws00000006BBIAY', 'needs_decision', '1', '0', NULL, '1795631655.0809703', NULL, NULL, '1', NULL, NULL, '2', NULL, NULL, 'true', 'false', '1', 'false', NULL, '1', 'false', NULL, 'false', NULL, '0', '{"order": {"id": "801Ws00000006BBIAY", "order_number": "00000102", "status": "Pending Review", "account_id": "001Ws0000000EQ5IAM", "account_name": "c040e93f3", "whmcs_client_id": "6", "email": null, "provisioning_status": null, "whmcs_order_id": null, "portal_reference": null, "items": [{"id": "802Ws00000006BBIAY", "product_name": "Starter Hosting", "quantity": 1, "unit_price": "5.00", "wh_product_id": "1", "billing_cycle": "Monthly", "domain": null, "hostname": null}], "currency": null, "total": "5.00", "contact": {}, "attempted_before": false}, "clientId": "6", "paymentMethod": "stripe", "lines": [{"pid": "1", "billing_cycle": "monthly", "quantity": 1, "domain": null, "hostname": null, "price_override": null}], "markedInField": false}', '6', '["2"]', 'OUTCOME_UNCERTAIN', 'WHMCS order 2 is Cancelled in WHMCS', 'Activating', '1795631655', NULL, '1795631655.0809703', '1795631655.8319948', '1795631655.8319871');
INSERT INTO "fulfillments" VALUES ('801Ws0000000CMMIA2', 'waiting', '1', '0', NULL, '1795631672.8104277', 'it isn''t certain yet whether WHMCS made the order', NULL, '1', NULL, NULL, NULL, NULL, NULL, 'true', 'true', '1', 'true', '1795631672.8104277', '0', 'false', NULL, 'false', NULL, '0', '{"order": {"id": "801Ws0000000CMMIA2", "order_number": "00000105", "status": "Pending Review", "account_id": "001Ws0000000GToIAM", "account_name": "c53cfe8e3", "whmcs_client_id": "7", "email": null, "provisioning_status": null, "whmcs_order_id": null, "portal_reference": null, "items": [{"id": "802Ws0000000CMMIA2", "product_name": "Starter Hosting", "quantity": 1, "unit_price": "5.00", "wh_product_id": "1", "billing_cycle": "Monthly", "domain": null, "hostname": null}], "currency": null, "total": "5.00", "contact": {}, "attempted_before": false}, "clientId": "7", "paymentMethod": "stripe", "lines": [{"pid": "1", "billing_cycle": "monthly", "quantity": 1, "domain": null, "hostname": null, "price_override": null}], "markedInField": false}', '7', '[]', NULL, NULL, NULL, '1795631657', NULL, '1795631657.2448995', '1795631658.0452836', NULL);
INSERT INTO "fulfillments" VALUES ('801Ws0000000EQ5IAM', 'waiting', '1', '0', NULL, '1795631672.591262', 'it isn''t certain yet whether WHMCS made the order', NULL, '1', NULL, NULL, NULL, NULL, NULL, 'true', 'true', '1', 'true', '1795631672.591262', '0', 'false', NULL, 'false', NULL, '0', '{"order": {"id": "801Ws0000000EQ5IAM", "order_number": "00000106", "status": "Pending Review", "account_id": "001Ws0000000IXXIA2", "account_name": "c181532e5", "whmcs_client_id": "8", "email": null, "provisioning_status": null, "whmcs_order_id": null, "portal_reference": null, "items": [{"id": "802Ws0000000EQ5IAM", "product_name": "Starter Hosting", "quantity": 1, "unit_price": "5.00", "wh_product_id": "1", "billing_cycle": "Monthly", "domain": null, "hostname": null}], "currency": null, "total": "5.00", "contact": {}, "attempted_before": false}, "clientId": "8", "paymentMethod": "stripe", "lines": [{"pid": "1", "billing_cycle": "monthly", "quantity": 1, "domain": null, "hostname": null, "price_override": null}], "markedInField": false}', '8', '[]', NULL, NULL, NULL, '1795631657', NULL, '1795631657.2702034', '1795631657.8410537', NULL);
INSERT INTO "fulfillments" VALUES ('801Ws0000000GToIAM', 'running', '1', '0', NULL, '1795631657.2893777', NULL, 'vm-18272-a2ac86c536b742f2', '1', NULL, NULL, NULL, NULL, NULL, 'true', 'false', '1', 'true', '1795631672.8559232', '0', 'false', NULL, 'false', NULL, '0', '{"order": {"id": "801Ws0000000GToIAM", "order_number": "00000107", "status": "Pending Review", "account_id": "001Ws0000000KbGIAU", "account_name": "c1c7b12b4", "whmcs_client_id": "9", "email": null, "provisioning_status": null, "whmcs_order_id": null, "portal_reference": null, "items": [{"id": "802Ws0000000GToIAM", "product_name": "Starter Hosting", "quantity": 1, "unit_price": "5.00", "wh_product_id": "1", "billing_cycle": "Monthly", "domain": null, "hostname": null}], "currency": null, "total": "5.00", "contact": {}, "attempted_before": false}, "clientId": "9", "paymentMethod": "stripe", "lines": [{"pid": "1", "billing_cycle": "monthly", "quantity": 1, "domain": null, "hostname": null, "price_override": null}], "markedInField": false}', '9', '[]', NULL, NULL, NULL, '1795631657', NULL, '1795631657.2893777', '1795631657.9245865', NULL);
INSERT INTO "fulfillments" VALUES ('801Ws0000000IXXIA2', 'running', '1', '0', NULL, '1795631657.9855504', NULL, 'vm-18272-1357903b0cf14117', '1', NULL, NULL, NULL, NULL, NULL, 'true', 'false', '1', 'true', '1795631673.1697896', '0', 'false', NULL, 'false', NULL, '0', '{"order": {"id": "801Ws0000000IXXIA2", "order_number": "00000108", "status": "Pending Review", "account_id": "001Ws0000000MezIAE", "account_name": "c50ac0a08", "whmcs_client_id": "10", "email": null, "provisioning_status": null, "whmcs_order_id": null, "portal_reference": null, "items": [{"id": "802Ws0000000IXXIA2", "product_name": "Starter Hosting", "quantity": 1, "unit_price": "5.00", "wh_product_id": "1", "billing_cycle": "Monthly", "domain": null, "hostname": null}], "currency": null, "total": "5.00", "contact": {}, "attempted_before": false}, "clientId": "10", "paymentMethod": "stripe", "lines": [{"pid": "1", "billing_cycle": "monthly", "quantity": 1, "domain": null, "hostname": null, "price_override": null}], "markedInField": false}', '10', '[]', NULL, NULL, NULL, '1795631657', NULL, '1795631657.9855504', '1795631658.1778288', NULL);
INSERT INTO "fulfillments" VALUES ('801Ws0000000KbGIAU', 'running', '1', '0', NULL, '1795631658.2023277', NULL, 'vm-18272-bbfdca38b1114c95', '1', NULL, NULL, '4', NULL, NULL, 'true', 'false', '1', 'false', NULL, '1', 'true', '1795631673.4075089', 'false', NULL, '0', '{"order": {"id": "801Ws0000000KbGIAU", "order_number": "00000109", "status": "Pending Review", "account_id": "001Ws0000000OiiIAE", "account_name": "c6fd5499e", "whmcs_client_id": "11", "email": null, "provisioning_status": null, "whmcs_order_id": null, "portal_reference": null, "items": [{"id": "802Ws0000000KbGIAU", "product_name": "Starter Hosting", "quantity": 1, "unit_price": "5.00", "wh_product_id": "1", "billing_cycle": "Monthly", "domain": null, "hostname": null}], "currency": null, "total": "5.00", "contact": {}, "attempted_before": false}, "clientId": "11", "paymentMethod": "stripe", "lines": [{"pid": "1", "billing_cycle": "monthly", "quantity": 1, "domain": null, "hostname": null, "price_override": null}], "markedInField": false}', '11', '["4"]', NULL, NULL, NULL, '1795631658', NULL, '1795631658.2023277', '1795631658.4129553', NULL);
INSERT INTO "fulfillments" VALUES ('801Ws0000000MezIAE', 'queued', '1', '0', NULL, '1795631658.6181648', NULL, NULL, '0', NULL, NULL, NULL, NULL, NULL, 'true', 'false', '0', 'false', NULL, '0', 'false', NULL, 'false', NULL, '0', NULL, NULL, '[]', NULL, NULL, NULL, '1795631658', NULL, '1795631658.6181648', '1795631658.6181648', NULL);
INSERT INTO "fulfillments" VALUES ('801Ws0000000OiiIAE', 'queued', '1', '0', NULL, '1795631658.6646082', NULL, NULL, '0', NULL, NULL, NULL, NULL, NULL, 'true', 'false', '0', 'false', NULL, '0', 'false', NULL, 'false', NULL, '0', NULL, NULL, '[]', NULL, NULL, NULL, '1795631658', NULL, '1795631658.6646082', '1795631658.6646082', NULL);
CREATE TABLE idempotency_keys (
	key VARCHAR(255) NOT NULL, 
	sf_order_id VARCHAR(18) NOT NULL, 
	attempt INTEGER NOT NULL, 
	answer_status INTEGER, 
	answer_body JSON, 
	created_at DOUBLE PRECISION NOT NULL, 
	expires_at DOUBLE PRECISION NOT NULL, 
	CONSTRAINT pk_idempotency_keys PRIMARY KEY (key)
)

;
CREATE INDEX ix_idempotency_keys_expires_at ON idempotency_keys (expires_at);
CREATE INDEX ix_idempotency_keys_order ON idempotency_keys (sf_order_id);
INSERT INTO "idempotency_keys" VALUES ('click-079469a1301be4df', '801Ws0000000MezIAE', '1', NULL, NULL, '1795631658.6181648', '1796236458.6181648');
INSERT INTO "idempotency_keys" VALUES ('click-20d981e9501593f5', '801Ws0000000EQ5IAM', '1', NULL, NULL, '1795631657.2702034', '1796236457.2702034');
INSERT INTO "idempotency_keys" VALUES ('click-355f3fb2b22a2ae8', '801Ws00000006BBIAY', '1', NULL, NULL, '1795631655.0809703', '1796236455.0809703');
INSERT INTO "idempotency_keys" VALUES ('click-590438f307ba7de3', '801Ws0000000CMMIA2', '1', NULL, NULL, '1795631657.2448995', '1796236457.2448995');
INSERT INTO "idempotency_keys" VALUES ('click-6f5b627bd882ef1f', '801Ws0000000IXXIA2', '1', NULL, NULL, '1795631657.9855504', '1796236457.9855504');
INSERT INTO "idempotency_keys" VALUES ('click-895bc056cd1169e9', '801Ws0000000GToIAM', '1', NULL, NULL, '1795631657.2893777', '1796236457.2893777');
INSERT INTO "idempotency_keys" VALUES ('click-ddb9c1e5faebc216', '801Ws0000000KbGIAU', '1', NULL, NULL, '1795631658.2023277', '1796236458.2023277');
INSERT INTO "idempotency_keys" VALUES ('click-of-failed', '801Ws000000047SIAQ', '1', '409', '{"type": "urn:order-portal:problem:payment_method_missing", "title": "Payment method missing", "status": 409, "detail": "The customer has no payment method in WHMCS: ask them to add one, then provision again", "code": "payment_method_missing"}', '1795631654.5769167', '1796236454.5769167');
INSERT INTO "idempotency_keys" VALUES ('click-of-provisioned', '801Ws000000023jIAA', '1', '200', '{"success": true, "status": "Provisioned", "whmcsOrderId": "1"}', '1795631653.6598268', '1796236453.6598268');
INSERT INTO "idempotency_keys" VALUES ('click-of-queued', '801Ws0000000OiiIAE', '1', NULL, NULL, '1795631658.6646082', '1796236458.6646082');
CREATE TABLE installation (
	key VARCHAR(60) NOT NULL, 
	value JSON NOT NULL, 
	updated_at DOUBLE PRECISION NOT NULL, 
	CONSTRAINT pk_installation PRIMARY KEY (key)
)

;
INSERT INTO "installation" VALUES ('epoch', '1', '1795631651.9244318');
INSERT INTO "installation" VALUES ('marks_readable', 'true', '1795631654.3312984');
INSERT INTO "installation" VALUES ('orders_learnt', '[0.0, ""]', '1795631652.299232');
INSERT INTO "installation" VALUES ('salesforce_org', '"00DWs000000023jMAA"', '1795631651.1393666');
INSERT INTO "installation" VALUES ('security_watch', '{"since": 1795631661.9828048, "events": {}, "senders": {}, "told_at": 1795631661.9828048}', '1795631661.9828048');
INSERT INTO "installation" VALUES ('sweep', '"vm-18273-f8b553d0610c40b1"', '1795631651.561831');
INSERT INTO "installation" VALUES ('whmcs_address', '"http://127.0.0.1:43691/includes/api.php"', '1795631651.0576172');
CREATE TABLE orders (
	reference VARCHAR(40) NOT NULL, 
	sf_order_id VARCHAR(18), 
	order_number VARCHAR(40), 
	account_id VARCHAR(18) NOT NULL, 
	email VARCHAR(254), 
	checkout_key VARCHAR(64), 
	"placing" VARCHAR(10) NOT NULL, 
	place_due_at DOUBLE PRECISION, 
	place_tries INTEGER NOT NULL, 
	status VARCHAR(20) NOT NULL, 
	sf_status VARCHAR(80), 
	items JSON NOT NULL, 
	currency VARCHAR(3), 
	total VARCHAR(30), 
	error_code VARCHAR(40), 
	created_at DOUBLE PRECISION NOT NULL, 
	updated_at DOUBLE PRECISION NOT NULL, 
	CONSTRAINT pk_orders PRIMARY KEY (reference), 
	CONSTRAINT uq_orders_checkout_key UNIQUE NULLS DISTINCT (checkout_key), 
	CONSTRAINT uq_orders_sf_order_id UNIQUE NULLS DISTINCT (sf_order_id)
)

;
CREATE INDEX ix_orders_account ON orders (account_id, created_at, reference);
CREATE INDEX ix_orders_account_status ON orders (account_id, status, created_at);
CREATE INDEX ix_orders_place_due_at ON orders (place_due_at);
CREATE INDEX ix_orders_status_updated ON orders (status, updated_at);
INSERT INTO "orders" VALUES ('801Ws000000023jIAA', '801Ws000000023jIAA', '00000100', '001Ws0000000AIdIAM', NULL, NULL, 'placed', NULL, '0', 'Provisioned', 'Pending Review', '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": null, "hostname": null, "entryId": null}]', NULL, '5.00', NULL, '1795631654.1346655', '1795631654.4793434');
INSERT INTO "orders" VALUES ('801Ws000000047SIAQ', '801Ws000000047SIAQ', '00000101', '001Ws0000000CMMIA2', NULL, NULL, 'placed', NULL, '0', 'Failed', 'Pending Review', '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": null, "hostname": null, "entryId": null}]', NULL, '5.00', 'PAYMENT_METHOD_MISSING', '1795631654.757512', '1795631654.8070161');
INSERT INTO "orders" VALUES ('801Ws00000006BBIAY', '801Ws00000006BBIAY', '00000102', '001Ws0000000EQ5IAM', NULL, NULL, 'placed', NULL, '0', 'Activating', 'Pending Review', '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": null, "hostname": null, "entryId": null}]', NULL, '5.00', 'OUTCOME_UNCERTAIN', '1795631655.3957872', '1795631655.8319871');
INSERT INTO "orders" VALUES ('801Ws0000000CMMIA2', '801Ws0000000CMMIA2', '00000105', '001Ws0000000GToIAM', NULL, NULL, 'placed', NULL, '0', 'Activating', 'Pending Review', '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": null, "hostname": null, "entryId": null}]', NULL, '5.00', NULL, '1795631657.459022', '1795631657.673661');
INSERT INTO "orders" VALUES ('801Ws0000000EQ5IAM', '801Ws0000000EQ5IAM', '00000106', '001Ws0000000IXXIA2', NULL, NULL, 'placed', NULL, '0', 'Activating', 'Pending Review', '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": null, "hostname": null, "entryId": null}]', NULL, '5.00', NULL, '1795631657.3463132', '1795631657.439884');
INSERT INTO "orders" VALUES ('801Ws0000000GToIAM', '801Ws0000000GToIAM', '00000107', '001Ws0000000KbGIAU', NULL, NULL, 'placed', NULL, '0', 'Activating', 'Pending Review', '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": null, "hostname": null, "entryId": null}]', NULL, '5.00', NULL, '1795631657.4730928', '1795631657.7722023');
INSERT INTO "orders" VALUES ('801Ws0000000IXXIA2', '801Ws0000000IXXIA2', '00000108', '001Ws0000000MezIAE', NULL, NULL, 'placed', NULL, '0', 'Activating', 'Pending Review', '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": null, "hostname": null, "entryId": null}]', NULL, '5.00', NULL, '1795631658.0538256', '1795631658.1152258');
INSERT INTO "orders" VALUES ('801Ws0000000KbGIAU', '801Ws0000000KbGIAU', '00000109', '001Ws0000000OiiIAE', NULL, NULL, 'placed', NULL, '0', 'Activating', 'Pending Review', '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": null, "hostname": null, "entryId": null}]', NULL, '5.00', NULL, '1795631658.242781', '1795631658.2598553');
INSERT INTO "orders" VALUES ('PO-2YP9-ZHN3', NULL, NULL, '001Ws000000023jIAA', 'ada@lovelace.example', 'f5679b81e92785477d0752dd4112de4b1332b6526ce584bfa4babc630790bac6', 'placing', '1795631664.8180084', '1', 'Pending Review', NULL, '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": "aa95d916.example.com", "hostname": null, "entryId": "01uWs000000047SIAQ"}]', 'USD', '5.00', NULL, '1795631659.772227', '1795631659.772227');
INSERT INTO "orders" VALUES ('PO-4Y3R-FP2X', '801Ws00000008EuIAI', NULL, '001Ws000000023jIAA', 'ada@lovelace.example', 'a2502b61d1c6da52ac24e274be575e17df46f2ef9653fd2375d7c4e27e45b9f5', 'placed', NULL, '1', 'Pending Review', NULL, '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": "3b3cf86f.example.com", "hostname": null, "entryId": "01uWs000000047SIAQ"}]', 'USD', '5.00', NULL, '1795631657.0287535', '1795631657.0714014');
INSERT INTO "orders" VALUES ('PO-T4HD-FPTC', '801Ws0000000AIdIAM', NULL, '001Ws000000023jIAA', 'ada@lovelace.example', 'eea66ce39187fc92affccdae4b4533c86d1784527670874c9347a194cd4b8fd6', 'placed', NULL, '1', 'Cancelled', NULL, '[{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": "1adbe7df.example.com", "hostname": null, "entryId": "01uWs000000047SIAQ"}]', 'USD', '5.00', 'WITHDRAWN', '1795631657.2026918', '1795631659.6863449');
CREATE TABLE outbox (
	id SERIAL NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	subject VARCHAR(80) NOT NULL, 
	once VARCHAR(160), 
	payload JSON NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	tries INTEGER NOT NULL, 
	due_at DOUBLE PRECISION NOT NULL, 
	claimed_by VARCHAR(64), 
	claimed_until DOUBLE PRECISION, 
	error VARCHAR(255), 
	created_at DOUBLE PRECISION NOT NULL, 
	sent_at DOUBLE PRECISION, 
	CONSTRAINT pk_outbox PRIMARY KEY (id), 
	CONSTRAINT uq_outbox_once UNIQUE NULLS DISTINCT (once)
)

;
CREATE INDEX ix_outbox_claimed_by ON outbox (claimed_by);
CREATE INDEX ix_outbox_due ON outbox (kind, state, due_at);
CREATE INDEX ix_outbox_subject ON outbox (kind, subject, state, id);
INSERT INTO "outbox" VALUES ('1', 'assertion', '801Ws000000023jIAA', NULL, '{}', 'sent', '0', '1795631683.6598268', NULL, NULL, NULL, '1795631653.6598268', '1795631654.5385969');
INSERT INTO "outbox" VALUES ('10', 'mail', 'PO-T4HD-FPTC', 'mail:received:PO-T4HD-FPTC', '{"to": "ada@lovelace.example", "template": "received", "account_id": "001Ws000000023jIAA", "context": {"reference": "PO-T4HD-FPTC", "items": [{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": "1adbe7df.example.com", "hostname": null, "entryId": "01uWs000000047SIAQ"}], "currency": "USD", "total": "5.00"}, "message_id": "po-t4hd-fptc.received"}', 'sent', '0', '1795631657.2026918', NULL, NULL, NULL, '1795631657.2026918', '1795631657.7167299');
INSERT INTO "outbox" VALUES ('11', 'salesforce', '801Ws0000000EQ5IAM', NULL, '{"fields": {"Provisioning_Status__c": "Activating", "Last_Provisioning_At__c": "2026-11-25T18:34:17.000+0000", "Provisioning_Error_Code__c": null, "Provisioning_Error_Message__c": null}}', 'sent', '0', '1795631657.5223045', NULL, NULL, NULL, '1795631657.5223045', '1795631657.600913');
INSERT INTO "outbox" VALUES ('12', 'salesforce', '801Ws0000000CMMIA2', NULL, '{"fields": {"Provisioning_Status__c": "Activating", "Last_Provisioning_At__c": "2026-11-25T18:34:17.000+0000", "Provisioning_Error_Code__c": null, "Provisioning_Error_Message__c": null}}', 'sent', '0', '1795631657.732145', NULL, NULL, NULL, '1795631657.732145', '1795631657.823204');
INSERT INTO "outbox" VALUES ('13', 'salesforce', '801Ws0000000GToIAM', NULL, '{"fields": {"Provisioning_Status__c": "Activating", "Last_Provisioning_At__c": "2026-11-25T18:34:17.000+0000", "Provisioning_Error_Code__c": null, "Provisioning_Error_Message__c": null}}', 'sent', '0', '1795631657.8036456', NULL, NULL, NULL, '1795631657.8036456', '1795631657.8809726');
INSERT INTO "outbox" VALUES ('14', 'salesforce', '801Ws0000000IXXIA2', NULL, '{"fields": {"Provisioning_Status__c": "Activating", "Last_Provisioning_At__c": "2026-11-25T18:34:18.000+0000", "Provisioning_Error_Code__c": null, "Provisioning_Error_Message__c": null}}', 'sent', '0', '1795631658.1429956', NULL, NULL, NULL, '1795631658.1429956', '1795631658.1721032');
INSERT INTO "outbox" VALUES ('15', 'salesforce', '801Ws0000000KbGIAU', NULL, '{"fields": {"Provisioning_Status__c": "Activating", "Last_Provisioning_At__c": "2026-11-25T18:34:18.000+0000", "Provisioning_Error_Code__c": null, "Provisioning_Error_Message__c": null}}', 'sent', '0', '1795631658.2734945', NULL, NULL, NULL, '1795631658.2734945', '1795631658.2872903');
INSERT INTO "outbox" VALUES ('16', 'assertion', '801Ws0000000OiiIAE', NULL, '{}', 'pending', '0', '1795631664.668398', NULL, NULL, NULL, '1795631658.6646082', NULL);
INSERT INTO "outbox" VALUES ('17', 'salesforce', '801Ws0000000AIdIAM', 'cancelled:801Ws0000000AIdIAM', '{"fields": {"Provisioning_Status__c": "Cancelled"}}', 'pending', '0', '1795631659.6863449', NULL, NULL, NULL, '1795631659.6863449', NULL);
INSERT INTO "outbox" VALUES ('18', 'mail', 'PO-2YP9-ZHN3', 'mail:received:PO-2YP9-ZHN3', '{"to": "ada@lovelace.example", "template": "received", "account_id": "001Ws000000023jIAA", "context": {"reference": "PO-2YP9-ZHN3", "items": [{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": "aa95d916.example.com", "hostname": null, "entryId": "01uWs000000047SIAQ"}], "currency": "USD", "total": "5.00"}, "message_id": "po-2yp9-zhn3.received"}', 'pending', '0', '1795631659.772227', NULL, NULL, NULL, '1795631659.772227', NULL);
INSERT INTO "outbox" VALUES ('19', 'mail', 'sign-in', NULL, '{"template": "sign_in", "address": "ada@lovelace.example"}', 'pending', '0', '1795631659.9652786', NULL, NULL, NULL, '1795631659.9652786', NULL);
INSERT INTO "outbox" VALUES ('2', 'salesforce', '801Ws000000023jIAA', NULL, '{"fields": {"Provisioning_Status__c": "Activating", "Last_Provisioning_At__c": "2026-11-25T18:34:14.000+0000", "Provisioning_Error_Code__c": null, "Provisioning_Error_Message__c": null}}', 'sent', '0', '1795631654.1994214', NULL, NULL, NULL, '1795631654.1994214', '1795631654.2397358');
INSERT INTO "outbox" VALUES ('20', 'alert', 'security', NULL, '{"url_setting": "security_alert_webhook", "body": {"text": ":warning: 8 webhook requests refused within 1 min at http://127.0.0.1:44237: 8 invalid_signature. Most from 127.0.0.1.", "kind": "webhook_security_events", "portal": "http://127.0.0.1:44237", "since": "2026-11-25T18:34:21+00:00", "until": "2026-11-25T18:34:21+00:00", "events": {"invalid_signature": 8}, "addresses": {"127.0.0.1": 8}}}', 'pending', '0', '1795631661.9828048', NULL, NULL, NULL, '1795631661.9828048', NULL);
INSERT INTO "outbox" VALUES ('3', 'salesforce', '801Ws000000023jIAA', NULL, '{"fields": {"Provisioning_Status__c": "Provisioned", "Last_Provisioning_At__c": "2026-11-25T18:34:14.000+0000", "Provisioning_Error_Code__c": null, "Provisioning_Error_Message__c": null, "WHMCS_Order_ID__c": "1"}}', 'sent', '0', '1795631654.4407532', NULL, NULL, NULL, '1795631654.4407532', '1795631654.489031');
INSERT INTO "outbox" VALUES ('4', 'assertion', '801Ws000000047SIAQ', NULL, '{}', 'pending', '0', '1795631659.9705646', NULL, NULL, NULL, '1795631654.5769167', NULL);
INSERT INTO "outbox" VALUES ('5', 'salesforce', '801Ws000000047SIAQ', NULL, '{"fields": {"Provisioning_Status__c": "Failed", "Last_Provisioning_At__c": "2026-11-25T18:34:14.000+0000", "Provisioning_Error_Code__c": "PAYMENT_METHOD_MISSING", "Provisioning_Error_Message__c": "The customer has no payment method in WHMCS: ask them to add one, then provision again"}}', 'sent', '0', '1795631654.8528326', NULL, NULL, NULL, '1795631654.8528326', '1795631654.902466');
INSERT INTO "outbox" VALUES ('6', 'salesforce', '801Ws00000006BBIAY', NULL, '{"fields": {"Provisioning_Status__c": "Activating", "Last_Provisioning_At__c": "2026-11-25T18:34:15.000+0000", "Provisioning_Error_Code__c": null, "Provisioning_Error_Message__c": null}}', 'sent', '0', '1795631655.489356', NULL, NULL, NULL, '1795631655.489356', '1795631655.5778558');
INSERT INTO "outbox" VALUES ('7', 'salesforce', '801Ws00000006BBIAY', NULL, '{"fields": {"Provisioning_Status__c": "Failed", "Last_Provisioning_At__c": "2026-11-25T18:34:15.000+0000", "Provisioning_Error_Code__c": "OUTCOME_UNCERTAIN", "Provisioning_Error_Message__c": "WHMCS order 2 is Cancelled in WHMCS", "WHMCS_Order_ID__c": "2"}}', 'sent', '0', '1795631655.9193063', NULL, NULL, NULL, '1795631655.9193063', '1795631655.9639783');
INSERT INTO "outbox" VALUES ('8', 'mail', 'sign-in', NULL, '{"template": "sign_in", "address": "ada@lovelace.example"}', 'sent', '0', '1795631656.2170033', NULL, NULL, NULL, '1795631656.2170033', '1795631656.617803');
INSERT INTO "outbox" VALUES ('9', 'mail', 'PO-4Y3R-FP2X', 'mail:received:PO-4Y3R-FP2X', '{"to": "ada@lovelace.example", "template": "received", "account_id": "001Ws000000023jIAA", "context": {"reference": "PO-4Y3R-FP2X", "items": [{"name": "Starter Hosting", "quantity": 1, "unitPrice": "5.00", "cycle": "Monthly", "domain": "3b3cf86f.example.com", "hostname": null, "entryId": "01uWs000000047SIAQ"}], "currency": "USD", "total": "5.00"}, "message_id": "po-4y3r-fp2x.received"}', 'sent', '0', '1795631657.0287535', NULL, NULL, NULL, '1795631657.0287535', '1795631657.607305');
CREATE TABLE services (
	service_id VARCHAR(32) NOT NULL, 
	sf_order_id VARCHAR(18) NOT NULL, 
	status VARCHAR(20), 
	seen_at DOUBLE PRECISION, 
	CONSTRAINT pk_services PRIMARY KEY (service_id)
)

;
CREATE INDEX ix_services_order ON services (sf_order_id);
INSERT INTO "services" VALUES ('1', '801Ws000000023jIAA', NULL, NULL);
INSERT INTO "services" VALUES ('2', '801Ws00000006BBIAY', NULL, NULL);
CREATE TABLE sessions (
	id VARCHAR(64) NOT NULL, 
	email VARCHAR(254) NOT NULL, 
	contact_id VARCHAR(18), 
	account_id VARCHAR(18) NOT NULL, 
	order_reference VARCHAR(40), 
	created_at DOUBLE PRECISION NOT NULL, 
	expires_at DOUBLE PRECISION NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (id)
)

;
CREATE INDEX ix_sessions_email ON sessions (email);
CREATE INDEX ix_sessions_expires_at ON sessions (expires_at);
INSERT INTO "sessions" VALUES ('f0b2a957ce9bbdba657ec756745d40c872011980dbcf6e2be2bcd15cfa5b7f1c', 'ada@lovelace.example', '003Ws000000023jIAA', '001Ws000000023jIAA', NULL, '1795631656.782186', '1796236456.782186');
CREATE TABLE steps (
	id SERIAL NOT NULL, 
	sf_order_id VARCHAR(18) NOT NULL, 
	attempt INTEGER NOT NULL, 
	name VARCHAR(30) NOT NULL, 
	state VARCHAR(10) NOT NULL, 
	fence INTEGER NOT NULL, 
	started_at DOUBLE PRECISION NOT NULL, 
	ended_at DOUBLE PRECISION, 
	detail JSON, 
	CONSTRAINT pk_steps PRIMARY KEY (id)
)

;
CREATE INDEX ix_steps_order ON steps (sf_order_id, attempt, id);
INSERT INTO "steps" VALUES ('1', '801Ws000000023jIAA', '1', 'validation', 'done', '1', '1795631654.0570683', '1795631654.1766942', '{"orderStatus": "Pending Review", "items": 1, "whmcsClientId": "4"}');
INSERT INTO "steps" VALUES ('10', '801Ws00000006BBIAY', '1', 'sf_status_update', 'done', '1', '1795631655.4425783', '1795631655.5540035', '{"status": "Activating", "told": true}');
INSERT INTO "steps" VALUES ('11', '801Ws00000006BBIAY', '1', 'order_details', 'done', '1', '1795631655.5540566', '1795631655.5540876', '{"items": 1, "quantity": 1}');
INSERT INTO "steps" VALUES ('12', '801Ws00000006BBIAY', '1', 'mapping', 'done', '1', '1795631655.5541177', '1795631655.554666', '{"items": [{"item": "802Ws00000006BBIAY", "product": "Starter Hosting", "whProductId": "1", "billingCycle": "Monthly", "mappedTo": "monthly", "quantity": 1}]}');
INSERT INTO "steps" VALUES ('13', '801Ws00000006BBIAY', '1', 'whmcs_create', 'done', '1', '1795631655.5547104', '1795631655.643482', '{"whmcsOrderId": "2", "addOrders": 1}');
INSERT INTO "steps" VALUES ('14', '801Ws00000006BBIAY', '1', 'whmcs_accept', 'uncertain', '1', '1795631655.6436458', '1795631655.8319833', '{"error": "WHMCS order 2 is Cancelled in WHMCS", "code": "OUTCOME_UNCERTAIN"}');
INSERT INTO "steps" VALUES ('15', '801Ws0000000EQ5IAM', '1', 'validation', 'done', '1', '1795631657.3004832', '1795631657.3827813', '{"orderStatus": "Pending Review", "items": 1, "whmcsClientId": "8"}');
INSERT INTO "steps" VALUES ('16', '801Ws0000000CMMIA2', '1', 'validation', 'done', '1', '1795631657.3459213', '1795631657.628039', '{"orderStatus": "Pending Review", "items": 1, "whmcsClientId": "7"}');
INSERT INTO "steps" VALUES ('17', '801Ws0000000GToIAM', '1', 'validation', 'done', '1', '1795631657.364931', '1795631657.7060418', '{"orderStatus": "Pending Review", "items": 1, "whmcsClientId": "9"}');
INSERT INTO "steps" VALUES ('18', '801Ws0000000EQ5IAM', '1', 'sf_status_update', 'done', '1', '1795631657.3829286', '1795631657.5799477', '{"status": "Activating", "told": true}');
INSERT INTO "steps" VALUES ('19', '801Ws0000000EQ5IAM', '1', 'order_details', 'done', '1', '1795631657.5800009', '1795631657.5800257', '{"items": 1, "quantity": 1}');
INSERT INTO "steps" VALUES ('2', '801Ws000000023jIAA', '1', 'sf_status_update', 'done', '1', '1795631654.1768358', '1795631654.2289336', '{"status": "Activating", "told": true}');
INSERT INTO "steps" VALUES ('20', '801Ws0000000EQ5IAM', '1', 'mapping', 'done', '1', '1795631657.5800543', '1795631657.5805323', '{"items": [{"item": "802Ws0000000EQ5IAM", "product": "Starter Hosting", "whProductId": "1", "billingCycle": "Monthly", "mappedTo": "monthly", "quantity": 1}]}');
INSERT INTO "steps" VALUES ('21', '801Ws0000000EQ5IAM', '1', 'whmcs_create', 'uncertain', '1', '1795631657.5805767', '1795631657.841044', '{"error": "it isn''t certain yet whether WHMCS made the order"}');
INSERT INTO "steps" VALUES ('22', '801Ws0000000CMMIA2', '1', 'sf_status_update', 'done', '1', '1795631657.6282063', '1795631657.7943976', '{"status": "Activating", "told": true}');
INSERT INTO "steps" VALUES ('23', '801Ws0000000GToIAM', '1', 'sf_status_update', 'done', '1', '1795631657.7062023', '1795631657.835975', '{"status": "Activating", "told": true}');
INSERT INTO "steps" VALUES ('24', '801Ws0000000CMMIA2', '1', 'order_details', 'done', '1', '1795631657.7944467', '1795631657.7944717', '{"items": 1, "quantity": 1}');
INSERT INTO "steps" VALUES ('25', '801Ws0000000CMMIA2', '1', 'mapping', 'done', '1', '1795631657.7945004', '1795631657.8005576', '{"items": [{"item": "802Ws0000000CMMIA2", "product": "Starter Hosting", "whProductId": "1", "billingCycle": "Monthly", "mappedTo": "monthly", "quantity": 1}]}');
INSERT INTO "steps" VALUES ('26', '801Ws0000000CMMIA2', '1', 'whmcs_create', 'uncertain', '1', '1795631657.8006124', '1795631658.0452762', '{"error": "it isn''t certain yet whether WHMCS made the order"}');
INSERT INTO "steps" VALUES ('27', '801Ws0000000GToIAM', '1', 'order_details', 'done', '1', '1795631657.8360226', '1795631657.836048', '{"items": 1, "quantity": 1}');
INSERT INTO "steps" VALUES ('28', '801Ws0000000GToIAM', '1', 'mapping', 'done', '1', '1795631657.836077', '1795631657.8365529', '{"items": [{"item": "802Ws0000000GToIAM", "product": "Starter Hosting", "whProductId": "1", "billingCycle": "Monthly", "mappedTo": "monthly", "quantity": 1}]}');
INSERT INTO "steps" VALUES ('29', '801Ws0000000GToIAM', '1', 'whmcs_create', 'intent', '1', '1795631657.8365934', NULL, NULL);
INSERT INTO "steps" VALUES ('3', '801Ws000000023jIAA', '1', 'order_details', 'done', '1', '1795631654.2289836', '1795631654.2290132', '{"items": 1, "quantity": 1}');
INSERT INTO "steps" VALUES ('30', '801Ws0000000IXXIA2', '1', 'validation', 'done', '1', '1795631658.043749', '1795631658.1002822', '{"orderStatus": "Pending Review", "items": 1, "whmcsClientId": "10"}');
INSERT INTO "steps" VALUES ('31', '801Ws0000000IXXIA2', '1', 'sf_status_update', 'done', '1', '1795631658.100413', '1795631658.1687331', '{"status": "Activating", "told": true}');
INSERT INTO "steps" VALUES ('32', '801Ws0000000IXXIA2', '1', 'order_details', 'done', '1', '1795631658.168775', '1795631658.1687973', '{"items": 1, "quantity": 1}');
INSERT INTO "steps" VALUES ('33', '801Ws0000000IXXIA2', '1', 'mapping', 'done', '1', '1795631658.168823', '1795631658.168938', '{"items": [{"item": "802Ws0000000IXXIA2", "product": "Starter Hosting", "whProductId": "1", "billingCycle": "Monthly", "mappedTo": "monthly", "quantity": 1}]}');
INSERT INTO "steps" VALUES ('34', '801Ws0000000IXXIA2', '1', 'whmcs_create', 'intent', '1', '1795631658.1689656', NULL, NULL);
INSERT INTO "steps" VALUES ('35', '801Ws0000000KbGIAU', '1', 'validation', 'done', '1', '1795631658.2335403', '1795631658.256613', '{"orderStatus": "Pending Review", "items": 1, "whmcsClientId": "11"}');
INSERT INTO "steps" VALUES ('36', '801Ws0000000KbGIAU', '1', 'sf_status_update', 'done', '1', '1795631658.2567432', '1795631658.2798724', '{"status": "Activating", "told": true}');
INSERT INTO "steps" VALUES ('37', '801Ws0000000KbGIAU', '1', 'order_details', 'done', '1', '1795631658.279914', '1795631658.279934', '{"items": 1, "quantity": 1}');
INSERT INTO "steps" VALUES ('38', '801Ws0000000KbGIAU', '1', 'mapping', 'done', '1', '1795631658.2799604', '1795631658.2800696', '{"items": [{"item": "802Ws0000000KbGIAU", "product": "Starter Hosting", "whProductId": "1", "billingCycle": "Monthly", "mappedTo": "monthly", "quantity": 1}]}');
INSERT INTO "steps" VALUES ('39', '801Ws0000000KbGIAU', '1', 'whmcs_create', 'done', '1', '1795631658.2800968', '1795631658.3571284', '{"whmcsOrderId": "4", "addOrders": 1}');
INSERT INTO "steps" VALUES ('4', '801Ws000000023jIAA', '1', 'mapping', 'done', '1', '1795631654.2290435', '1795631654.229518', '{"items": [{"item": "802Ws000000023jIAA", "product": "Starter Hosting", "whProductId": "1", "billingCycle": "Monthly", "mappedTo": "monthly", "quantity": 1}]}');
INSERT INTO "steps" VALUES ('40', '801Ws0000000KbGIAU', '1', 'whmcs_accept', 'intent', '1', '1795631658.357354', NULL, NULL);
INSERT INTO "steps" VALUES ('5', '801Ws000000023jIAA', '1', 'whmcs_create', 'done', '1', '1795631654.2295609', '1795631654.3140466', '{"whmcsOrderId": "1", "addOrders": 1}');
INSERT INTO "steps" VALUES ('6', '801Ws000000023jIAA', '1', 'whmcs_accept', 'done', '1', '1795631654.3142035', '1795631654.4051683', '{"whmcsOrderId": "1", "serviceIds": ["1"]}');
INSERT INTO "steps" VALUES ('7', '801Ws000000023jIAA', '1', 'sf_success_update', 'done', '1', '1795631654.4053173', '1795631654.473844', '{"status": "Provisioned", "told": true}');
INSERT INTO "steps" VALUES ('8', '801Ws000000047SIAQ', '1', 'validation', 'failed', '1', '1795631654.6743853', '1795631654.806993', '{"error": "The customer has no payment method in WHMCS: ask them to add one, then provision again", "code": "PAYMENT_METHOD_MISSING"}');
INSERT INTO "steps" VALUES ('9', '801Ws00000006BBIAY', '1', 'validation', 'done', '1', '1795631655.3558385', '1795631655.442397', '{"orderStatus": "Pending Review", "items": 1, "whmcsClientId": "6"}');
CREATE TABLE upstreams (
	name VARCHAR(20) NOT NULL, 
	failures INTEGER NOT NULL, 
	opened_at DOUBLE PRECISION, 
	probe_at DOUBLE PRECISION, 
	last_ok_at DOUBLE PRECISION, 
	last_error_at DOUBLE PRECISION, 
	last_error VARCHAR(255), 
	CONSTRAINT pk_upstreams PRIMARY KEY (name)
)

;
INSERT INTO "upstreams" VALUES ('salesforce', '1', NULL, NULL, '1795631656.8849835', '1795631659.8040364', 'Salesforce answered 503 without a usable body');
INSERT INTO "upstreams" VALUES ('whmcs', '0', NULL, NULL, '1795631658.036663', '1795631657.907649', 'the connection to WHMCS was lost before the whole answer was there');
CREATE TABLE used_links (
	id VARCHAR(64) NOT NULL, 
	used_at DOUBLE PRECISION NOT NULL, 
	expires_at DOUBLE PRECISION NOT NULL, 
	CONSTRAINT pk_used_links PRIMARY KEY (id)
)

;
CREATE INDEX ix_used_links_expires_at ON used_links (expires_at);
INSERT INTO "used_links" VALUES ('f0e4b34346e7db97f70c1bfdf80f34cd008cb2cd922611c2f9847eb917519d43', '1795631656.7646968', '1795632556');
CREATE TABLE workers (
	incarnation VARCHAR(64) NOT NULL, 
	kind VARCHAR(20) NOT NULL, 
	host VARCHAR(120) NOT NULL, 
	pid INTEGER NOT NULL, 
	beat INTEGER NOT NULL, 
	dead BOOLEAN NOT NULL, 
	started_at DOUBLE PRECISION NOT NULL, 
	CONSTRAINT pk_workers PRIMARY KEY (incarnation)
)

;
CREATE INDEX ix_workers_dead ON workers (dead, kind);
INSERT INTO "workers" VALUES ('vm-18272-1357903b0cf14117', 'fulfill', 'vm', '18413', '10', 'false', '1795631652.7760823');
INSERT INTO "workers" VALUES ('vm-18272-193a1e97ed4b45d7', 'fulfill', 'vm', '18417', '10', 'false', '1795631652.8712316');
INSERT INTO "workers" VALUES ('vm-18272-58a9112642e34865', 'fulfill', 'vm', '18416', '10', 'false', '1795631652.9360676');
INSERT INTO "workers" VALUES ('vm-18272-5f01de59b0344cea', 'fulfill', 'vm', '18412', '10', 'false', '1795631652.765537');
INSERT INTO "workers" VALUES ('vm-18272-89acd9454c5848a4', 'deliver', 'vm', '18429', '9', 'false', '1795631653.1493256');
INSERT INTO "workers" VALUES ('vm-18272-a2ac86c536b742f2', 'fulfill', 'vm', '18419', '10', 'false', '1795631652.9555404');
INSERT INTO "workers" VALUES ('vm-18272-bbfdca38b1114c95', 'fulfill', 'vm', '18425', '9', 'false', '1795631653.0682642');
INSERT INTO "workers" VALUES ('vm-18273-f8b553d0610c40b1', 'sweep', 'vm', '18273', '30', 'false', '1795631651.1525447');
SELECT setval('events_id_seq', 13);
SELECT setval('outbox_id_seq', 20);
SELECT setval('steps_id_seq', 40);
