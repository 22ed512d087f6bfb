/*
    What clients read lies in memory or on flash, where a page out of order costs little more
    than the next one. Postgres assumes a spinning disk, and row level security makes it expect
    few rows of an account (the policy and the client's own filter name it twice, and their
    odds are multiplied), so that it sorted all 50,000 contacts to show 50: 671 ms, now 1.0.
    PostgREST applies a role's settings to each request.
*/
alter role authenticated set random_page_cost = 1.1;
