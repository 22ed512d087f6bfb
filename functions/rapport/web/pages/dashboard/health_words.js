/**
 * What is wrong and what to do, for pages in another language than the account's, in which the
 * database says it: by language and kind. In braces, what is filled in.
 *
 * @type {Readonly<Record<string, Readonly<Record<string, string>>>>}
 */
const WORDS = {
  en: {
    failed_messages: "Messages of the last 24 hours that were not sent, or may not have been: {count}. The first since {since}.",
    "failed_messages.remedy": "Each message says why. Send it again or drop it.",
    failing_sync: "Contacts and partners at Metakocka have not been brought together since {since}. Failed tries: {count}.",
    "failing_sync.remedy": "Read the reason in the settings of the connection. Check the secret key and the quota at Metakocka; the sync goes on by itself.",
    refused_signatures: "Webhooks with a wrong signature were refused since {since}: {count}. If messages of customers are missing, the secret of the WhatsApp app is wrong; otherwise a stranger sent them.",
    "refused_signatures.remedy": "Compare the app's secret (Meta, App settings, Basic) with WHATSAPP_APP_SECRET. Meta repeats refused webhooks for 7 days.",
    stopped_number: "Since {since} nothing is sent from the WhatsApp number {subject}.",
    "stopped_number.remedy": "The reason stands beside the number. Solve it at Meta, then let the number send again: what waits is sent.",
    unknown_number: "WhatsApp has sent webhooks for the number {subject}, which is not registered here, since {since}: {count}. Their messages are not shown.",
    "unknown_number.remedy": "Have the number registered (rapport number add), then have the webhooks applied by rapport replay. They are kept for 90 days.",
    waiting_messages: "Messages that have waited for more than 5 minutes to be sent by WhatsApp: {count}. The oldest waits since {since}.",
    "waiting_messages.remedy": "Usually they are sent by themselves once WhatsApp takes more. If their number grows, ask the people who run this service.",
  },
  sl: {
    failed_messages: "Sporočila zadnjih 24 ur, ki niso bila poslana ali za katera to ni znano: {count}. Prvo od {since}.",
    "failed_messages.remedy": "Pri vsakem sporočilu je zapisano, zakaj. Pošljite ga znova ali ga opustite.",
    failing_sync: "Stiki in partnerji v Metakocki niso usklajeni od {since}. Neuspeli poskusi: {count}.",
    "failing_sync.remedy": "Preberite razlog v nastavitvah povezave. Preverite skrivni ključ in kvoto v Metakocki; usklajevanje se nadaljuje samo.",
    refused_signatures: "Zavrnjeni webhooki z napačnim podpisom od {since}: {count}. Če manjkajo sporočila strank, je skrivnost aplikacije WhatsApp napačna; sicer jih je poslal neznanec.",
    "refused_signatures.remedy": "Primerjajte skrivnost aplikacije (Meta, App settings, Basic) z WHATSAPP_APP_SECRET. Meta zavrnjene webhooke ponavlja 7 dni.",
    stopped_number: "Od {since} se s številke WhatsApp {subject} nič ne pošilja.",
    "stopped_number.remedy": "Razlog je zapisan pri številki. Odpravite ga pri podjetju Meta, nato spet vključite pošiljanje: kar čaka, bo poslano.",
    unknown_number: "WhatsApp od {since} pošilja webhooke za številko {subject}, ki tu ni vpisana: {count}. Njihova sporočila niso prikazana.",
    "unknown_number.remedy": "Naj se številka vpiše (rapport number add), nato naj se webhooki obdelajo z ukazom rapport replay. Hranijo se 90 dni.",
    waiting_messages: "Sporočila, ki že več kot 5 minut čakajo na pošiljanje prek WhatsAppa: {count}. Najstarejše čaka od {since}.",
    "waiting_messages.remedy": "Običajno se pošljejo sama, ko jih WhatsApp spet sprejema. Če jih je vedno več, se obrnite na upravljavce te storitve.",
  },
};

/**
 * The words about a trouble, or nothing where there are none in the language.
 *
 * @param {string} language
 * @param {string} key its kind, or its kind and `.remedy`
 * @param {Readonly<Record<string, string>>} facts
 */
export function healthWords(language, key, facts = {}) {
  return (WORDS[language]?.[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => facts[name] ?? "");
}
