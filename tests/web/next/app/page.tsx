import { Appointments } from "./appointments";

export default async function Page({ searchParams }: { searchParams: Promise<Record<string, string>> }) {
  const { url = "", key = "", token = "", customer = "" } = await searchParams;
  return <Appointments url={url} anonKey={key} token={token} customerId={customer} />;
}
