"""The words that may be repeated of other people's sentences: what errors of hosting, billing and CRMs are told with.

A list of what looks like a secret can't be complete; a list of what certainly is none can be long enough. So no name,
no common password (`admin`, `test`, `welcome`) and no word that is only ever a datum belongs here.
"""

from __future__ import annotations

from typing import Final

_GRAMMAR: Final = """
a about above according across actual actually after again against all allow allowed allowing allows almost already
also although always am among an and another any anything anyway apart are aren as ask asked asking at attempt
attempted attempting attempts available away back bad be became because become been before began begin beginning
being below best better between both bring but by call called calling calls came can cannot case cases cause caused
causes causing certain certainly change changed changes changing check checked checking checks choose chosen come
comes complete completed completely completing contain contained contains could couldn current currently cut day
days decide decided definite denied deny depends did didn different directly do does doesn doing don done down due
during each earlier early either else empty end ended ending ends enough ensure enter entered entering entire
entirely entry equal etc even ever every everything exact exactly except exceptional exist existed existing exists
expect expected expecting expects fail failed failing fails failure failures false far few final finally find
finished first follow followed following follows for found from full fully further gave get gets getting give given
gives giving go goes going gone good got greater had hadn happen happened happening has hasn have haven having held
help hence here higher hold holds hour hours how however i if immediately in inside instead into invalid is isn it
its itself just keep kept kind knew know known knows large larger last later least leave left less let lets like
likely likewise long longer look looked looking lost low lower made make makes making many matter maximum may maybe
mean means meant meanwhile met middle might minimum minute minutes miss missed missing month months more moreover
most move moved moving much must mustn my near nearly necessary need needed needn needs neither never new newer next
no nobody none nor normal normally not note nothing notice now nowhere of off often ok old older on once one only
onto open opened opening opens or order other others otherwise ought our out outside over own owned owner part
partial particular parts past per perhaps permanent permanently place please point possible possibly present
presently previous previously prior probably proceed put quite rather reach reached reaches reaching read ready real
really reason reasons received receives recent recently regarding related remain remaining remains repeat repeated
return returned returning returns right said same saw say says second seconds see seem seemed seems seen send sends
sent set sets several shall short should shouldn show shown shows side similar simple simply since single small
smaller so some somebody something sometimes soon sorry start started starting starts state stated still stop
stopped stopping stops such sure take taken takes taking tell than that the their them then there therefore these
they thing things this those though three through thus time times to today together told too took toward tried tries
true try trying turn turned twice two unable under unexpected unexpectedly unfortunately unknown unless unlikely
until up upon us use used useful uses using usual usually valid value values very via want wanted was wasn way we
week weeks well went were weren what whatever when where wherever whether which while who whole whose why will with
within without won word words work worked working works would wouldn wrong year years yes yet you your zero
"""

_HOSTING: Final = """
abort aborted accept acceptable accepted accepting access accessed accessible account accounts action actions
activate activated activation active add added adding addition additional addon addons address addresses agreement
allocate allocated allocation amount annual annually api app application applications applied apply area array
assign assigned assignment attached auth authenticate authenticated authentication authorisation authorised
authorization authorized auto automatic automatically backup backups balance bandwidth banned base biennially
billing blank blocked body boolean broken browser buffer bug build building busy cache cached callback cancel
canceled cancellation cancelled cancelling capacity card cards cart category certificate certificates chain
changeable character characters charge charged charset city class clear cleared client clients close closed cluster
code codes collation column columns command commands common communicate communication company compatible component
condition conditions config configurable configuration configurations configure configured confirm confirmation
confirmed conflict conflicting connect connected connecting connection connections connectivity console constraint
contact contacts content contents control controller convert correct correctly corrupt corrupted cost count country
cpanel cpu create created creates creating creation credential credentials credit cron curl currency custom customer
customers cycle cycles daemon data database databases date dates deadline deadlock debug decline declined default
defaults define defined delay delayed delete deleted deleting deletion delivered delivery deploy deprecated describe
described description destination detail details detected developer device directadmin directory disabled disconnect
disconnected discount disk dns document domain domains download draft driver dropped duplicate duplicated duplicates
edit edited editing email emails enable enabled encoding encountered encrypt encrypted endpoint engine environment
err error errors event events exceed exceeded exceeding exceeds exception exceptions exclude exclusive execute
executed executing execution exhausted exit expire expired expires expiry extension external fatal fault faults
feature features fetch field fields file files filter filtered firewall fix fixed flag folder forbidden forced
foreign form format forward fraud free function functions gateway gateways general generate generated generating
group groups guide handle handled handler handshake hardware header headers hook hooks host hosting hostname
hostnames html http https id identifier idle ids ignore ignored import imported inactive include included includes
including incomplete incorrect incorrectly index info information initial initialize initialized inode inodes input
insert inserted install installation installed instance insufficient integer integration internal interrupted
invoice invoices ip ips item items job jobs json key keys language layer legacy length level library licence license
licensed licenses limit limited limits line lines link linked list listed listing live load loaded loading local
location lock locked locks log logged login logs mail mailbox mailboxes main maintenance management manager manual
manually mapping match matched matches matching memory message messages method methods migrated migration mismatch
mode modified modify module modules monthly mount multiple mysql name named names nameserver nameservers negative
network node nodes null number numbers numeric object objects obtain obtained occurred offer offered offline onetime
online operation operations option optional options orders outage output overload overloaded override ownership
package packages page pages paid panel param parameter parameters parse parsed parsing password passwords path pay
payment payments pending percent perform performed period permission permissions permit permitted phone php ping
plan plans plesk plugin policy pool port ports post postcode posted price prices pricing primary priority private
problem problems process processed processing processor product products profile prohibited promotion property
protected protocol provide provided provider provision provisioned provisioning proxy public purchase quantity
quarterly queries query queue queued quota quotas range rate record records recurring redirect redirected refer
reference references refund refunded refuse refused refuses refusing register registered registrar registration
registry reject rejected release released reload remote remove removed renew renewal renewals renewed replace
replaced reply report reported reports request requested requests require required requires requiring reserved reset
resolve resolved resolving resource resources respond responded response responses restart restarted restore
restricted restriction result results resume retired retries retry reverse review role roles route row rows rule
rules run running runtime sale sandbox save saved scheduled schema script search secret section secure security
select selected semi semiannually server servers service services session sessions setting settings setup shared
shell shutdown sign signature signed site size slave slot slots slow socket software sold source space special
specific specified specify sql ssh ssl stack stage standard status statuses stock stocks storage stored string
subdomain subdomains subject submit submitted subscription subscriptions success successful successfully support
supported suspend suspended suspension switch syntax system table tables target task tax template temporarily
temporary term terminate terminated termination terms text thread throttled ticket timed timeout timeouts timestamp
title tls token tokens total transaction transactions transfer transferred trial triennially trigger triggers type
types unauthorized unavailable undefined unhandled unique unit unlimited unlock unpaid unreachable unrecognised
unrecognized unresolved unsupported unsuspend update updated updates updating upgrade upgraded upload uri url urls
usage user username usernames users validate validated validation verification verified verify version versions
violation virtual vps wait waited waiting warning warnings web webhook website whm whmcs whois worker write writing
written xml zone
"""

_SALESFORCE: Final = """
accountid activates apex approval approve approved assignments attribute audience billingstreet bulk campaign
composite consumer contract contracts cross dependent deployed dml effectivedate entities entity erroneous flow
flows governor grant heap inaccessible instances junction limitexception lookup malformed managed nonexistent
operator opportunity orderitem orderitems orderproduct org organization pack parent picklist pricebook pricebook2id
pricebookentry pricebookentryid pricebooks product2 quote readonly referenced relationship rights salesforce sharing
soap sobject soql unitprice visibility visible workflow
"""

PLAIN_WORDS: Final = frozenset((_GRAMMAR + _HOSTING + _SALESFORCE).split())
